"""Promise 4: however often and wherever a training is killed, its weights are those of an undisturbed one."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from components.common.blobs import Blobs
from components.common.refs import ShardsRef
from components.common.store import open_store
from components.train.machine import has_horovod
from support.synthetic_shards import striped_shards

pytestmark = pytest.mark.integration

needs_horovod = pytest.mark.skipif(not has_horovod(), reason="Horovod is not installed here")

# Some 150 steps, and everything that a checkpoint has to remember: momentum or moments, average, best, dropout.
COMMON: dict[str, Any] = {
    "model": "lenet",
    "epochs": 25,
    "batch_size": 16,
    "backend": "torchvision",
    "threads": 1,
    "checkpoint": {"interval_steps": 1},
    "max_restarts": 4,
}
CASES = [
    pytest.param({"engine": "horovod", "workers": 2, "keep": "best"}, id="horovod", marks=needs_horovod),
    pytest.param(
        {"engine": "ddp", "workers": 2, "optimizer": "adamw", "early_stopping": {"patience": 20}}, id="ddp"
    ),
]


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ShardsRef]:
    """A store that holds nothing but shards, and their reference."""
    folder = tmp_path_factory.mktemp("shards") / "store"
    return folder, striped_shards(Blobs(open_store(str(folder))))


StartTraining = Callable[..., Any]
"""conftest's fixture; test modules do not import one another."""


def copy_of(stored: tuple[Path, ShardsRef], path: Path) -> Path:
    shutil.copytree(stored[0], path)
    return path


@pytest.mark.parametrize("case", CASES)
def test_killed_workers_and_killed_groups_leave_no_trace(
    start_training: StartTraining, stored: tuple[Path, ShardsRef], tmp_path: Path, case: dict[str, Any]
) -> None:
    shards, settings = stored[1], {**COMMON, **case}
    undisturbed = start_training(copy_of(stored, tmp_path / "whole"), shards, **settings).result()

    store = copy_of(stored, tmp_path / "killed")
    training = start_training(store, shards, **settings)
    for step, rank in ((5, 0), (40, 1)):
        training.wait_for_step(step)
        training.workers()[rank].kill()
        training.wait_for_step(step + 20)
    training.kill_group()
    result = start_training(store, shards, **settings).result()

    assert result["key"] == undisturbed["key"], "the code was edited while the test ran"
    assert result["output"] == undisturbed["output"]
    assert result["measured"]["resumed_from"]
    assert undisturbed["measured"]["resumed_from"] == []


def test_one_process_killed_at_several_points(
    start_training: StartTraining, stored: tuple[Path, ShardsRef], tmp_path: Path
) -> None:
    shards, settings = stored[1], {**COMMON, "engine": "inline", "ema_decay": None, "gradient_clip": 1.0}
    undisturbed = start_training(copy_of(stored, tmp_path / "whole"), shards, **settings).result()
    store = copy_of(stored, tmp_path / "killed")
    for step in (3, 50, 90):
        training = start_training(store, shards, **settings)
        training.wait_for_step(step)
        training.kill_group()
    result = start_training(store, shards, **settings).result()
    assert result["output"] == undisturbed["output"]
    assert result["measured"]["resumed_from"][0] >= 90


def test_workers_die_with_a_killed_launcher(
    start_training: StartTraining, stored: tuple[Path, ShardsRef], tmp_path: Path
) -> None:
    training = start_training(
        copy_of(stored, tmp_path / "store"), stored[1], **{**COMMON, "engine": "ddp", "workers": 2}
    )
    training.wait_for_step(1)
    workers = list(training.workers().values())
    assert len(workers) == 2
    os.kill(training.process.pid, 9)
    _, alive = psutil.wait_procs(workers, timeout=20)
    assert not alive


def test_a_damaged_checkpoint_falls_back_to_the_one_before(
    start_training: StartTraining, stored: tuple[Path, ShardsRef], tmp_path: Path
) -> None:
    shards, settings = stored[1], {**COMMON, "engine": "inline"}
    undisturbed = start_training(copy_of(stored, tmp_path / "whole"), shards, **settings).result()
    store = copy_of(stored, tmp_path / "killed")
    training = start_training(store, shards, **settings)
    training.wait_for_step(50)
    training.kill_group()
    newest = max(store.glob("checkpoints/*/*.json"))
    newest.write_bytes(newest.read_bytes()[:-10])
    result = start_training(store, shards, **settings).result()
    assert "is damaged" in result["log"]
    assert result["output"] == undisturbed["output"]


@needs_horovod
def test_the_sample_stream_does_not_depend_on_the_world_size(
    start_training: StartTraining, stored: tuple[Path, ShardsRef], tmp_path: Path
) -> None:
    seen = {}
    for workers, engine in ((1, "inline"), (2, "horovod"), (3, "ddp")):
        trace = tmp_path / f"trace-{workers}"
        trace.mkdir()
        start_training(
            copy_of(stored, tmp_path / f"store-{workers}"),
            stored[1],
            variables={"CONVEYOR_TRACE_SAMPLES": str(trace)},
            **{**COMMON, "epochs": 3, "engine": engine, "workers": workers},
        ).result()
        steps: dict[int, list[str]] = {}
        for file in sorted(trace.iterdir()):
            for line in file.read_text().splitlines():
                number, *pairs = line.split()
                steps.setdefault(int(number), []).extend(pairs)
        seen[workers] = {number: sorted(pairs) for number, pairs in steps.items()}
    assert seen[1] == seen[2] == seen[3]
    assert len(seen[1]) == 18
    assert all(len(pairs) == 16 for pairs in seen[1].values())


@needs_horovod
def test_horovod_and_ddp_train_the_same_weights(
    start_training: StartTraining, stored: tuple[Path, ShardsRef], tmp_path: Path
) -> None:
    weights = [
        start_training(
            copy_of(stored, tmp_path / engine),
            stored[1],
            **{**COMMON, "epochs": 3, "engine": engine, "workers": 2},
        ).result()["output"]["weights"]
        for engine in ("horovod", "ddp")
    ]
    assert weights[0] == weights[1]
