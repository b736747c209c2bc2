import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from components.common.config import load_config
from components.common.errors import InputError
from components.compress.config import CompressConfig
from components.compress.resolve import AUTO_RATIOS, GENTLE_RATIOS, Plan, place, read_measurements, resolve


def ask(train: int, val: int = 100, epochs: int = 20, side: int = 16, **settings: Any) -> Plan:
    shards: Any = SimpleNamespace(
        splits={"train": train, "val": val, "test": 9}, image_size=side, tree="sha256:0"
    )
    config = CompressConfig.model_validate_json(json.dumps(settings))
    return resolve(
        config, cast(Any, SimpleNamespace(epochs=epochs, num_parameters=65_000, image_size=side)), shards
    )


def test_small_data_are_done_quickly_and_large_data_get_their_time() -> None:
    tiny, digits, large = ask(320, epochs=3), ask(1437, epochs=42), ask(1_200_000, epochs=10, side=224)
    assert (tiny.epochs, tiny.batch_size, tiny.num_steps) == (2, 32, 20)
    assert (digits.epochs, digits.batch_size, digits.num_steps) == (21, 64, 21 * 22)
    assert (large.epochs, large.batch_size) == (3, 128)
    assert tiny.latency_seconds < digits.latency_seconds <= large.latency_seconds <= 12


def test_settings_win() -> None:
    plan = ask(100, max_accuracy_drop=0.1, prune={"ratios": [0.3], "epochs": 7, "batch_size": 500})
    assert (plan.ratios, plan.stop_early, plan.drop, plan.epochs) == ((0.3,), False, 0.1, 7)
    assert (plan.batch_size, plan.num_steps) == (100, 7)
    assert ask(100, val=999).ratios == GENTLE_RATIOS
    assert ask(100, val=1000).ratios == AUTO_RATIOS
    assert ask(100).stop_early
    assert ask(100, prune={"ratios": []}).ratios == ()


@pytest.mark.parametrize(("train", "val"), [(0, 5), (5, 0)])
def test_nothing_to_choose_by_is_refused(train: int, val: int) -> None:
    with pytest.raises(InputError, match="training and a validation split"):
        ask(train, val)


def test_small_networks_use_one_thread_and_settings_win() -> None:
    small: Any = SimpleNamespace(num_parameters=65_000, image_size=16)
    large: Any = SimpleNamespace(num_parameters=11_000_000, image_size=224)
    assert place(CompressConfig(device="cpu"), small).threads == 1
    assert place(CompressConfig(device="cpu"), large).threads >= 1
    assert place(CompressConfig(device="cpu", threads=3), small).threads == 3


def test_a_gpu_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    model: Any = SimpleNamespace(num_parameters=1, image_size=1)
    with pytest.raises(InputError, match="no GPU"):
        place(CompressConfig(device="cuda"), model)


def test_recorded_latencies(tmp_path: Path) -> None:
    path = tmp_path / "latency.json"
    path.write_text('{"fp32": 2, "int8": 0.5}')
    assert read_measurements(path) == {"fp32": 2.0, "int8": 0.5}
    assert read_measurements(None) is None
    for wrong in ("[1]", '{"fp32": "fast"}', '{"fp32": 0}', '{"fp32": true}', "{"):
        path.write_text(wrong)
        with pytest.raises(InputError, match="recorded latencies"):
            read_measurements(path)
    with pytest.raises(InputError, match="recorded latencies"):
        read_measurements(tmp_path / "missing.json")


@pytest.mark.parametrize(
    "text", ["prune: {ratios: [1.0]}", "max_accuracy_drop: -0.1", "latency: {threads: 0}", "device: tpu"]
)
def test_impossible_settings_are_refused_with_their_place(text: str) -> None:
    with pytest.raises(InputError) as raised:
        load_config(CompressConfig, text=text)
    assert raised.value.where is not None
    assert ":1:" in raised.value.where


def test_how_fast_it_is_done_is_no_part_of_the_key(tmp_path: Path) -> None:
    plain, other = CompressConfig(), CompressConfig(num_loader_threads=5, measurements=tmp_path)
    assert plain.key_fields() == other.key_fields()
    assert CompressConfig(max_accuracy_drop=0.1).key_fields() != plain.key_fields()


def test_slow_networks_are_measured_for_longer() -> None:
    resnet: Any = SimpleNamespace(epochs=2, num_parameters=11_000_000, image_size=224)
    shards: Any = SimpleNamespace(splits={"train": 100, "val": 10}, image_size=224)
    assert resolve(CompressConfig(), resnet, shards).latency_seconds == 12
    assert ask(100).latency_seconds == 2
