import subprocess
import sys
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict

from components.common.config import load_config
from components.common.errors import InputError
from components.data.augment import AugmentConfig
from components.train.config import TrainConfig


class Root(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    train: TrainConfig = TrainConfig()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("train:\n  model: resnet19", ["train.model", ":2:", "did you mean resnet18?"]),
        ("train:\n  engine: inline\n  workers: 2", ["inline trains in one process"]),
        ("train:\n  device: cpu\n  amp: true", ["GPUs only"]),
        ("train:\n  device: cpu\n  backend: dali-gpu", ["decodes on a GPU"]),
        ("train:\n  epochs: 2\n  warmup_epochs: 2", ["fewer than epochs"]),
        ("train:\n  batch_size: 4\n  workers: 3", ["two images for each worker"]),
        ("train:\n  keep: last\n  early_stopping: {patience: 3}", ["best weights are kept"]),
        ("train:\n  learning_rate: -1", ["train.learning_rate", "greater than 0"]),
        ("train:\n  early_stoping: {}", ["early_stopping"]),
    ],
)
def test_wrong_settings_are_refused_with_their_place(text: str, words: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        load_config(Root, text=text)
    for word in words:
        assert word in str(caught.value)


def test_how_it_is_done_is_no_part_of_the_key() -> None:
    plain = TrainConfig().key_fields()
    other = TrainConfig(
        workers=2,
        engine="ddp",
        device="cpu",
        backend="torchvision",
        threads=1,
        max_restarts=0,
        tensorboard=False,
    )
    assert other.key_fields() == plain
    assert {"cache", "checkpoint"}.isdisjoint(plain)
    assert TrainConfig(seed=1).key_fields() != plain
    assert TrainConfig(augment=plain_augment(translate=0.2)).key_fields() != plain


def plain_augment(**changes: Any) -> AugmentConfig:
    return AugmentConfig(**changes)


def test_looking_for_a_finished_training_imports_no_torch() -> None:
    code = (
        "import sys; import components.train.run, components.train.config;"
        "components.train.machine.this_machine(); components.train.config.TrainConfig(model='resnet50');"
        "sys.exit('torch' in sys.modules or 'nvidia.dali' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
