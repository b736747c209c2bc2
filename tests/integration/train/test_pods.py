"""Training across pods, with a process for each pod: whoever is killed, however often, the weights stay the same."""

import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from components.common.blobs import Blobs
from components.common.refs import ShardsRef
from components.common.store import open_store
from components.train.machine import has_horovod
from support.pods import JobOfPods
from support.synthetic_shards import striped_shards

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

StartTraining = Callable[..., Any]
Stored = tuple[Path, ShardsRef]

COMMON: dict[str, Any] = {
    "model": "lenet",
    "epochs": 40,
    "batch_size": 16,
    "backend": "torchvision",
    "threads": 1,
    "keep": "best",
    "checkpoint": {"interval_steps": 1},
    "tensorboard": False,
}
ENDLESS = {**COMMON, "epochs": 5000}
DDP = [pytest.mark.slow] if has_horovod() else []


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Stored:
    """A store that holds nothing but shards, and their reference."""
    folder = tmp_path_factory.mktemp("shards") / "store"
    return folder, striped_shards(Blobs(open_store(str(folder))))


@pytest.fixture
def store(stored: Stored, tmp_path: Path) -> Path:
    shutil.copytree(stored[0], tmp_path / "store")
    return tmp_path / "store"


@pytest.mark.parametrize(
    "engine",
    [
        pytest.param(
            "horovod", marks=pytest.mark.skipif(not has_horovod(), reason="Horovod is not installed")
        ),
        pytest.param("ddp", marks=DDP),
    ],
)
def test_pods_and_workers_that_are_killed_leave_no_trace(
    start_training: StartTraining, stored: Stored, store: Path, tmp_path: Path, engine: str
) -> None:
    shutil.copytree(stored[0], tmp_path / "local")
    settings = {**COMMON, "engine": engine}
    local = start_training(tmp_path / "local", stored[1], **settings, workers=3).result()

    with JobOfPods(store, stored[1], settings, pods=3) as job:
        job.wait_for_step(3)
        job.kill_worker(1)
        job.wait_for_generation(2)
        job.wait_for_step(job.newest_step() + 3)
        job.kill(2)
        job.wait_for_generation(3)
        job.wait_for_step(job.newest_step() + 3)
        job.kill(0)
        job.wait_for_generation(4)
        results = job.results()

    assert [result["key"] for result in results] == [local["key"]] * 3
    assert [result["output"] for result in results] == [local["output"]] * 3
    # Survivors of a pod end with a status of their own, which does not count against the job.
    assert set(job.statuses) == {-signal.SIGKILL, 0, 75}
    assert job.statuses.count(-signal.SIGKILL) == 2
    assert not list(store.glob("generations/*")), "a finished training leaves none"


def test_a_pod_that_falls_silent_counts_as_dead(stored: Stored, store: Path) -> None:
    with JobOfPods(store, stored[1], ENDLESS, pods=2, variables={"CONVEYOR_TRAIN_SILENCE_S": "2"}) as job:
        job.wait_for_step(3)
        frozen = job.pods[1]
        frozen.process.send_signal(signal.SIGSTOP)
        assert job.wait_for_end(0) == 75
        assert "pod 1 is gone, or says nothing any more" in job.log(0)
        frozen.process.send_signal(signal.SIGCONT)
        # It finds out by itself, and takes part again.
        assert job.wait_for_end(1) == 75
        job.wait_for_generation(2)
        # The other way round: the pod that leads is frozen.
        job.wait_for_step(job.newest_step() + 3)
        job.pods[0].process.send_signal(signal.SIGSTOP)
        assert job.wait_for_end(1) == 75
        job.kill(0)
        job.wait_for_generation(3)


def test_survivors_of_a_silent_pod_end_within_half_a_minute(stored: Stored, store: Path) -> None:
    """With the settings as they are: nothing is made quicker for the test."""
    with JobOfPods(store, stored[1], ENDLESS, pods=2) as job:
        job.wait_for_step(3)
        began = time.monotonic()
        job.pods[1].process.send_signal(signal.SIGSTOP)
        job.wait_for_words(0, "of the training is over")
        # What takes longer on a busy machine, its workers' end and its own, is not ours to promise.
        assert time.monotonic() - began < 30
        job.wait_for_status(0, 75)


def test_a_training_that_comes_no_further_is_given_up(stored: Stored, store: Path) -> None:
    settings = {**COMMON, "checkpoint": {"interval_s": 3600}, "max_restarts": 1}
    # A folder that is not there makes every rank fail while it opens its trace.
    broken = {"CONVEYOR_TRACE_SAMPLES": "/nowhere/at/all"}
    with JobOfPods(store, stored[1], settings, pods=2, variables=broken) as job:
        job.wait_for_status(0, 76)
        log = job.log(0)
        assert "comes no further" in log
        assert "3 generations that went on from step 0, 3 in all" in log
        assert "FileNotFoundError" in log
        job.wait_for_status(1, 75)
    # Somebody looked into it and starts it once more: it is tried once more.
    with JobOfPods(store, stored[1], {**settings, "max_restarts": 0}, pods=2) as job:
        assert len(job.results()) == 2


def test_mistakes_and_divergence_are_final(stored: Stored, store: Path) -> None:
    with JobOfPods(store, stored[1], {**COMMON, "model": "alexnet"}, pods=2) as job:
        job.wait_for_status(0, 2)
        assert "alexnet cannot take images of 8×8" in job.log(0)
        job.wait_for_status(1, 75)
    with JobOfPods(store, stored[1], {**COMMON, "learning_rate": 1e20}, pods=2) as job:
        job.wait_for_status(0, 76)
        assert "diverged" in job.log(0)


def test_strangers_and_other_trainings_are_not_let_in(stored: Stored, store: Path) -> None:
    token = {"CONVEYOR_TRAIN_TOKEN": "of this job", "CONVEYOR_TRAIN_START_TIMEOUT_S": "60"}
    with JobOfPods(store, stored[1], ENDLESS, pods=3, variables=token, restart=False) as job:
        job.start(0)
        job.start(1, variables={"CONVEYOR_TRAIN_TOKEN": "guessed"})
        assert job.wait_for_end(1) == 3
        assert "does not know the job's token" in job.log(1)
        job.start(1, settings={**ENDLESS, "seed": 1})
        assert job.wait_for_end(1) == 3
        assert "would train something else than pod 0" in job.log(1)
        assert job.pods[0].process.poll() is None


def test_who_waits_says_for_whom_and_not_for_ever(stored: Stored, store: Path) -> None:
    soon = {"CONVEYOR_TRAIN_START_TIMEOUT_S": "12"}
    with JobOfPods(store, stored[1], COMMON, pods=3, variables=soon, restart=False) as job:
        job.start(0)
        job.start(1)
        assert job.wait_for_end(0) == 3
        assert "waiting for pod 2" in job.log(0)
        assert "1 of 3 training pods did not come" in job.log(0)
        assert job.wait_for_end(1) in (3, 75)
        assert "waiting for pod 2" in job.log(1)


def test_an_elastic_training_shrinks_and_grows_with_the_same_samples(
    stored: Stored, store: Path, tmp_path: Path
) -> None:
    trace = tmp_path / "trace"
    trace.mkdir()
    elastic = {
        "CONVEYOR_TRAIN_MIN_PODS": "2",
        "CONVEYOR_TRAIN_SETTLE_S": "1",
        "CONVEYOR_TRAIN_GROW_AFTER_S": "1",
        "CONVEYOR_TRACE_SAMPLES": str(trace),
    }
    with JobOfPods(store, stored[1], ENDLESS, pods=3, variables=elastic, restart=False) as job:
        for index in range(3):
            job.start(index)
        job.wait_for_step(3)
        job.kill(2)
        job.wait_for_generation(2)
        job.wait_for_step(job.newest_step() + 3)
        job.start(2)
        job.wait_for_generation(3)
        job.wait_for_step(job.newest_step() + 3)
        done = job.newest_step()
        assert "going on without pod 2" in job.log(0)
        assert "pod 2 joins" in job.log(0)

    seen: dict[str, dict[int, set[str]]] = {}
    for file in sorted(trace.iterdir()):
        size = file.stem.partition("-of-")[2]
        # The last line may be half a line.
        for line in file.read_text().splitlines()[:-1]:
            number, *pairs = line.split()
            seen.setdefault(size, {}).setdefault(int(number), set()).update(pairs)
    assert set(seen) == {"2", "3"}
    for step in range(done):
        # A step that a kill interrupted was begun by some of the ranks only; it was done anew, whole.
        batch = seen["2"].get(step, set()) | seen["3"].get(step, set())
        assert len(batch) == 16
    assert len(set(seen["2"]) - set(seen["3"])) > 0
