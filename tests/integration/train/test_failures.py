"""What a person sees when a training cannot go on."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from components.common.blobs import Blobs
from components.common.errors import InputError, StepError
from components.common.progress import make_reporter
from components.common.refs import ModelRef, ShardsRef
from components.common.step import Outcome, execute
from components.common.store import Store, open_store
from components.train import run
from components.train.config import TrainConfig
from support.synthetic_shards import striped_shards

pytestmark = pytest.mark.integration

QUICK: dict[str, Any] = {"backend": "torchvision", "threads": 1, "tensorboard": False, "batch_size": 16}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return open_store(str(tmp_path_factory.mktemp("train") / "store"))


@pytest.fixture(scope="module")
def shards(store: Store) -> ShardsRef:
    return striped_shards(Blobs(store))


def train(store: Store, shards: ShardsRef, warm_start: ModelRef | None = None, **settings: Any) -> Outcome:
    inputs = run.Inputs(shards=shards, warm_start=warm_start)
    config = TrainConfig(**{**QUICK, **settings})
    return execute(run, config, inputs, store, make_reporter())


def test_a_worker_that_keeps_dying_ends_the_step_with_its_last_words(
    store: Store, shards: ShardsRef, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    # A folder that is not there makes every rank fail while it opens its trace.
    monkeypatch.setenv("CONVEYOR_TRACE_SAMPLES", "/nowhere/at/all")
    with pytest.raises(StepError, match=r"training worker \d failed with exit status 1") as caught:
        train(store, shards, engine="ddp", workers=2, max_restarts=1)
    assert "after 2 tries" in str(caught.value)
    assert "FileNotFoundError" in str(caught.value)
    assert capfd.readouterr().err.count("starting all of them anew") == 1


def test_a_mistake_in_the_settings_is_told_as_one(store: Store, shards: ShardsRef) -> None:
    with pytest.raises(InputError, match="alexnet cannot take images of 8×8"):
        train(store, shards, engine="ddp", workers=2, model="alexnet")


def test_a_training_that_diverges_says_so(store: Store, shards: ShardsRef) -> None:
    with pytest.raises(StepError, match="diverged"):
        train(store, shards, workers=1, model="lenet", learning_rate=1e20, epochs=2)


def test_results_history_and_scalars(store: Store, shards: ShardsRef, tmp_path: Path) -> None:
    outcome = train(store, shards, workers=1, epochs=4, tensorboard=True)
    ref = outcome.output
    assert isinstance(ref, ModelRef)
    assert ref.val_accuracy > 0.9
    assert outcome.measurements["images_per_second"] > 0
    events = [info.key for info in store.list("tensorboard/")]
    assert len(events) == 1
    with store.open(events[0]) as source, (tmp_path / "events.out.tfevents.0.test").open("wb") as target:
        shutil.copyfileobj(source, target)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accumulator = EventAccumulator(str(tmp_path))
    accumulator.Reload()
    points = accumulator.Scalars("validation/accuracy")
    assert [point.step for point in points] == [6, 12, 18, 24]
    assert points[-1].value == pytest.approx(ref.val_accuracy)


def test_a_warm_start_is_ahead_of_a_cold_one(store: Store, shards: ShardsRef) -> None:
    settings: dict[str, Any] = {"workers": 1, "epochs": 1, "ema_decay": None, "learning_rate": 1e-4}
    teacher = train(store, shards, workers=1, epochs=4).output
    assert isinstance(teacher, ModelRef)
    cold, warm = train(store, shards, **settings).output, train(store, shards, teacher, **settings).output
    assert isinstance(cold, ModelRef)
    assert isinstance(warm, ModelRef)
    assert warm.val_accuracy > cold.val_accuracy + 0.2


def test_without_validation_images_the_accuracy_is_trainings(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    store = open_store(str(tmp_path / "store"))
    outcome = train(store, striped_shards(Blobs(store), val=0), workers=1, epochs=2)
    assert isinstance(outcome.output, ModelRef)
    assert outcome.output.val_accuracy > 0
    assert "no validation images" in capfd.readouterr().err


def test_ctrl_c_ends_all_workers_and_a_rerun_goes_on(
    start_training: Callable[..., Any], tmp_path: Path
) -> None:
    folder = tmp_path / "store"
    shards = striped_shards(Blobs(open_store(str(folder))))
    # Far more epochs than the test waits for.
    settings = {**QUICK, "engine": "ddp", "workers": 2, "epochs": 5000, "checkpoint": {"interval_steps": 1}}
    training = start_training(folder, shards, **settings)
    training.wait_for_step(10)
    workers = training.workers().values()
    training.process.send_signal(2)
    output, errors = training.process.communicate(timeout=60)
    assert training.process.returncode == 130, errors
    assert "Traceback" not in errors
    assert not output
    assert not [worker for worker in workers if worker.is_running()]
    again = start_training(folder, shards, **settings)
    assert any("training goes on from step" in line for line in again.process.stderr)
