"""Failures of Jobs that wait for each other: who counts them, who hears of them, who takes them back."""

from contextlib import suppress
from pathlib import Path

import pytest

from components.common.announce import announce
from components.common.errors import InputError, StepError
from components.common.failed import TRIES, Failure, read_failure, refuse_ended, telling_failure
from components.common.main import run_step
from components.common.progress import make_reporter
from components.common.runs import JOB
from components.common.sections import RootBase, StoreSection
from components.common.store import Store, open_store
from components.common.wait import (
    begin,
    wait_for_step,
)
from support.waiting import RUN, Turns, fail, finish, wait


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "store"))


def test_a_failure_for_good_ends_the_wait(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(JOB, "t1")
    error = InputError("the source holds no images", todo="check the path")
    clock = Turns({2: lambda: fail(store, "preprocess", "p1", error, monkeypatch, tries=4)})
    with pytest.raises(InputError, match="preprocess failed for good") as caught:
        wait(store, clock)
    assert clock.turn == 2
    assert caught.value.found == "the source holds no images"
    assert caught.value.todo == "check the path"


def test_who_waits_for_who_waits_hears_of_the_first_cause(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = InputError("the source holds no images", todo="check the path")
    failing = Turns({1: lambda: fail(store, "preprocess", "p1", error, monkeypatch)})
    with monkeypatch.context() as patch:
        patch.setenv(JOB, "t1")
        with pytest.raises(InputError), telling_failure(store, RUN, "train"):
            wait(store, failing)
    monkeypatch.setenv(JOB, "e1")
    with pytest.raises(InputError, match="evaluate has nothing to work on: preprocess failed") as caught:
        wait_for_step(
            store, RUN, "evaluate", "train", make_reporter(quiet=True), deadline_s=600, clock=Turns()
        )
    assert caught.value.found == "the source holds no images"


def test_a_failure_that_is_tried_again_does_not(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(JOB, "t1")

    def once_more() -> None:
        fail(store, "preprocess", "p1", StepError("the disk is full"), monkeypatch, tries=3)

    clock = Turns({1: once_more, 2: once_more, 3: lambda: finish(store, "preprocess", "p1", monkeypatch)})
    wait(store, clock)
    assert clock.turn == 3
    once_more()
    failure = read_failure(store, RUN, "preprocess")
    assert failure is not None
    assert (failure.tries, failure.final) == (3, True)


def test_tries_are_counted_over_the_waits_between_them(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every new pod of the Job waits first, successfully; that takes back nothing."""
    finish(store, "preprocess", "p1", monkeypatch)
    monkeypatch.setenv(JOB, "t1")
    seen: list[Failure | None] = []
    for _ in range(3):
        with telling_failure(store, RUN, "train", waiting=True):
            wait(store, Turns())
        fail(store, "train", "t1", StepError("the disk is full"), monkeypatch, tries=3)
        seen.append(read_failure(store, RUN, "train"))
    assert [(each.tries, each.final) for each in seen if each] == [(1, False), (2, False), (3, True)]
    with telling_failure(store, RUN, "train"):
        pass
    assert read_failure(store, RUN, "train") is None, "the step's own success does"


def test_a_job_that_another_has_followed_says_no_more(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its pod was left alive. What the newer Job has said stands, and nothing that it has not."""
    fail(store, "train", "t1", StepError("the disk is full"), monkeypatch, tries=3)
    announce(store, RUN, "train", "t2")
    monkeypatch.setenv(TRIES, "1")

    def left_alive(*, fails: bool) -> None:
        with monkeypatch.context() as patch, suppress(StepError):
            patch.setenv(JOB, "t1")
            with telling_failure(store, RUN, "train"):
                if fails:
                    raise StepError("killed")

    with monkeypatch.context() as patch:
        patch.setenv(JOB, "t2")
        begin(store, RUN, "train")
    left_alive(fails=True)
    assert read_failure(store, RUN, "train") is None
    with monkeypatch.context() as patch, suppress(InputError):
        patch.setenv(JOB, "t2")
        with telling_failure(store, RUN, "train"):
            raise InputError("no such model")
    for fails in (True, False):
        left_alive(fails=fails)
        word = read_failure(store, RUN, "train")
        assert word is not None
        assert (word.job, word.what) == ("t2", "no such model")


def test_a_step_that_cannot_be_imported_says_so(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(JOB, "t1")
    config = RootBase(store=StoreSection(url=store.url))
    with pytest.raises(ModuleNotFoundError):
        run_step("train", "components.common.train", config, {}, run_id=RUN, quiet=True)
    word = read_failure(store, RUN, "train")
    assert word is not None
    assert "components.common.train" in word.what


def test_a_job_that_starts_a_pod_after_its_own_failure_for_good_ends_it_at_once(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an MPIJob's launcher does."""
    monkeypatch.setenv(JOB, "t1")
    refuse_ended(store, RUN, "train")
    fail(store, "train", "t1", StepError("the disk is full"), monkeypatch, tries=1)
    refuse_ended(store, RUN, "train")  # another try may find room
    fail(store, "train", "t1", InputError("no such model", todo="name another"), monkeypatch, tries=9)
    with pytest.raises(InputError, match="train has failed for good: no such model") as caught:
        refuse_ended(store, RUN, "train")
    assert str(caught.value.todo).startswith("name another;")
    monkeypatch.setenv(JOB, "t2")
    refuse_ended(store, RUN, "train")  # applied again


def test_interruptions_and_another_pods_death_are_no_failures(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    class GenerationOverError(StepError):
        exit_code = 75

    fail(store, "preprocess", "p1", GenerationOverError("rank 1 died"), monkeypatch)
    assert read_failure(store, RUN, "preprocess") is None


def test_outside_such_jobs_nothing_is_noted(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(JOB, raising=False)
    with pytest.raises(StepError), telling_failure(store, RUN, "train"):
        raise StepError("x")
    assert list(store.list("runs/")) == []
