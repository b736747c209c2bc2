"""Workers reach the same store as the step that started them, with settings from it and credentials from the environment."""

import pytest

from components.common.blobs import Blobs
from components.common.progress import make_reporter
from components.common.refs import ModelRef
from components.common.step import execute
from components.common.store import open_store
from components.models.weights import load_model
from components.train import run
from components.train.config import CheckpointConfig, TrainConfig
from support.synthetic_shards import striped_shards

pytestmark = pytest.mark.integration


def test_two_workers_train_from_a_bucket(s3_store_url: str) -> None:
    store = open_store(s3_store_url)
    blobs = Blobs(store)
    shards = striped_shards(blobs)
    config = TrainConfig(
        epochs=3,
        batch_size=16,
        workers=2,
        backend="torchvision",
        threads=1,
        checkpoint=CheckpointConfig(interval_steps=5),
    )
    model = execute(run, config, run.Inputs(shards=shards), store, make_reporter()).output
    assert isinstance(model, ModelRef)
    assert model.val_accuracy > 0.8
    assert len(load_model(model, blobs).state_dict()) > 10
    assert 1 <= len([info for info in store.list("checkpoints/") if info.key.endswith(".json")]) <= 2
    assert list(store.list("tensorboard/"))
