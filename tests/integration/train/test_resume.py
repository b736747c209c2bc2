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

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

StartTraining = Callable[..., Any]
"""conftest's fixture; test modules do not import one another."""
Stored = tuple[Path, ShardsRef]

# Some 240 steps, and everything that a checkpoint has to remember: momentum, average, best, dropout.
COMMON: dict[str, Any] = {
    "model": "lenet",
    "epochs": 40,
    "batch_size": 16,
    "backend": "torchvision",
    "threads": 1,
    "keep": "best",
    "checkpoint": {"interval_steps": 1},
    "max_restarts": 4,
    "tensorboard": False,
}
DISTRIBUTED = "horovod" if has_horovod() else "ddp"
needs_horovod = pytest.mark.skipif(not has_horovod(), reason="Horovod is not installed here")


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Stored:
    """A store that holds nothing but shards, and their reference."""
    folder = tmp_path_factory.mktemp("shards") / "store"
    return folder, striped_shards(Blobs(open_store(str(folder))))


@pytest.fixture(scope="module")
def undisturbed() -> dict[str, dict[str, Any]]:
    """Results of trainings that nobody killed, by name; filled by the first test that needs one."""
    return {}


def copy_of(stored: Stored, path: Path) -> Path:
    shutil.copytree(stored[0], path)
    return path


# One of them in every run of the tests, both in CI.
@pytest.mark.parametrize(
    "engine",
    [
        pytest.param("horovod", marks=needs_horovod),
        pytest.param("ddp", marks=[pytest.mark.slow] if has_horovod() else []),
    ],
)
def test_killed_workers_launchers_and_groups_leave_no_trace(
    start_training: StartTraining,
    stored: Stored,
    undisturbed: dict[str, dict[str, Any]],
    tmp_path: Path,
    engine: str,
) -> None:
    shards, settings = stored[1], {**COMMON, "workers": 2}
    if "two" not in undisturbed:
        # One for both engines: with two ranks they sum the same numbers, and must get the same bits.
        store = copy_of(stored, tmp_path / "whole")
        undisturbed["two"] = start_training(store, shards, engine=DISTRIBUTED, **settings).result()

    store = copy_of(stored, tmp_path / "killed")
    training = start_training(store, shards, engine=engine, **settings)
    for step, rank in ((5, 0), (30, 1)):
        training.wait_for_step(step)
        training.kill_worker(rank)
    workers = list(training.workers().values())
    assert len(workers) == 2
    if engine == "horovod":
        os.kill(training.process.pid, 9)
        _, alive = psutil.wait_procs(workers, timeout=60)
        assert not alive, "the workers outlived their launcher"
    else:
        training.kill_group()
    result = start_training(store, shards, engine=engine, **settings).result()

    assert result["output"]["weights"] == undisturbed["two"]["output"]["weights"]
    assert result["measured"]["resumed_from"], "it began anew: was the code edited while the test ran?"


def test_one_process_killed_at_several_points_with_a_damaged_checkpoint(
    start_training: StartTraining, stored: Stored, tmp_path: Path
) -> None:
    shards, settings = stored[1], {**COMMON, "engine": "inline", "ema_decay": None, "gradient_clip": 1.0}
    whole = start_training(copy_of(stored, tmp_path / "whole"), shards, **settings).result()
    assert whole["measured"]["resumed_from"] == []

    store = copy_of(stored, tmp_path / "killed")
    for step in (3, 50):
        training = start_training(store, shards, **settings)
        training.wait_for_step(step)
        training.kill_group()
    newest = max(store.glob("checkpoints/*/*.json"))
    newest.write_bytes(newest.read_bytes()[:-10])
    result = start_training(store, shards, **settings).result()

    assert result["key"] == whole["key"], "the code was edited while the test ran"
    assert result["output"] == whole["output"]
    assert f"{newest.name} is damaged" in result["log"]
    assert 0 < result["measured"]["resumed_from"][0] < int(newest.stem)


def test_the_sample_stream_does_not_depend_on_the_world_size(
    start_training: StartTraining, stored: Stored, tmp_path: Path
) -> None:
    seen = {}
    for workers, engine in ((1, "inline"), (3, DISTRIBUTED)):
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
    assert seen[1] == seen[3]
    assert len(seen[1]) == 18
    assert all(len(pairs) == 16 for pairs in seen[1].values())
