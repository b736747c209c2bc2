"""Jobs that were applied again, beside what the ones before them left in the run."""

from collections.abc import Callable
from pathlib import Path

import pytest

from components.common.announce import announce
from components.common.errors import InputError, StepError
from components.common.failed import read_failure
from components.common.progress import make_reporter
from components.common.runs import JOB
from components.common.store import Store, open_store
from components.common.wait import (
    FAILED_S,
    LATE_FAILURE_S,
    LATE_RESULT_S,
    NEW_JOB_S,
    begin,
    wait_for_step,
)
from support.waiting import RUN, Turns, fail, finish, wait


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "store"))


def test_applied_again_it_waits_for_the_new_job_of_the_step_before(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it would start from the old images, while the new ingest lists the new ones."""
    finish(store, "preprocess", "p1", monkeypatch)
    finish(store, "train", "t1", monkeypatch, used={"preprocess": "p1"})
    monkeypatch.setenv(JOB, "t2")
    slow = 2 * NEW_JOB_S  # Longer than it would be waited for had it not announced itself.
    turns: dict[int, Callable[[], object]] = {
        2: lambda: announce(store, RUN, "preprocess", "p2"),
        99: lambda: finish(store, "preprocess", "p2", monkeypatch),
    }
    clock = Turns(turns)
    wait(store, clock)
    assert clock.turn == 99
    assert clock.time > slow


def test_stopped_before_it_had_used_it_an_old_result_counts_no_more_either(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Deleted in mid-run, training had left nothing; the new preprocess is still at work when the new one begins."""
    finish(store, "preprocess", "p1", monkeypatch)
    announce(store, RUN, "train", "t1")
    announce(store, RUN, "preprocess", "p2")
    monkeypatch.setenv(JOB, "t2")
    clock = Turns({70: lambda: finish(store, "preprocess", "p2", monkeypatch)})
    wait(store, clock)
    assert clock.turn == 70
    assert clock.time > NEW_JOB_S


def test_another_pod_of_the_same_job_goes_on_at_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(JOB, "t1")
    begin(store, RUN, "train")
    finish(store, "preprocess", "p1", monkeypatch)
    clock = Turns()
    wait(store, clock)
    assert clock.turn == 0, "its result is newer than this Job's first pod"


def test_a_job_that_failed_and_is_applied_again_takes_the_result_that_is_there(
    store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The finished Job of the step before does not run again, so nothing newer will come."""
    finish(store, "preprocess", "p1", monkeypatch)
    fail(store, "train", "t1", StepError("no memory"), monkeypatch)
    monkeypatch.setenv(JOB, "t2")
    clock = Turns()
    wait_for_step(store, RUN, "train", "preprocess", make_reporter(), deadline_s=3600, clock=clock)
    assert NEW_JOB_S <= clock.time < 1.2 * NEW_JOB_S
    assert "where none begins, it counts after 120 s" in capsys.readouterr().err
    assert read_failure(store, RUN, "train") is None, "the new Job has taken the old word back"
    again = Turns()
    wait(store, again)
    assert again.turn == 0, "the next pod of that Job need not wait for it once more"


def test_a_step_of_several_inputs_asks_for_the_second_as_of_its_beginning(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What ended while it waited for the first is no older than its Job."""
    monkeypatch.setenv(JOB, "t1")

    def finish_both() -> None:
        for step in ("ingest", "preprocess"):
            finish(store, step, f"{step}1", monkeypatch)

    both = Turns({3: finish_both})
    wait(store, both, "ingest")
    wait(store, both, "preprocess")
    assert both.turn == 3


def test_the_word_of_an_earlier_job_gets_time_to_be_taken_back(
    store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The new Job's node may have to be made first; once it has begun, the old word says nothing any more."""
    announce(store, RUN, "train", "t1")
    fail(store, "preprocess", "p1", InputError("wrong"), monkeypatch)
    monkeypatch.setenv(JOB, "t2")
    turns: dict[int, Callable[[], object]] = {
        90: lambda: announce(store, RUN, "preprocess", "p2"),
        200: lambda: finish(store, "preprocess", "p2", monkeypatch),
    }
    late = Turns(turns)
    wait_for_step(store, RUN, "train", "preprocess", make_reporter(), deadline_s=3600, clock=late)
    assert late.turn == 200
    assert late.time > FAILED_S
    assert (
        "waiting for a new Job of preprocess, which failed before this one began: wrong"
        in capsys.readouterr().err
    )


def test_where_nobody_takes_it_back_it_holds(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    announce(store, RUN, "train", "t1")
    fail(store, "preprocess", "p1", InputError("wrong"), monkeypatch)
    monkeypatch.setenv(JOB, "t2")
    clock = Turns()
    with pytest.raises(InputError, match="for good"):
        wait(store, clock)
    assert FAILED_S <= clock.time < 1.1 * FAILED_S


@pytest.mark.parametrize("applied_before", [False, True])
def test_a_pod_that_starts_after_the_step_before_it_has_ended_waits_a_little(
    store: Store, monkeypatch: pytest.MonkeyPatch, applied_before: bool
) -> None:
    """Its node was busy. What ended meanwhile has begun after all of an earlier application was over, if there was one."""
    if applied_before:
        finish(store, "ingest", "i1", monkeypatch)
        fail(store, "preprocess", "p1", InputError("wrong"), monkeypatch)
        fail(store, "train", "t1", InputError("preprocess failed"), monkeypatch)
    finish(store, "ingest", "i2", monkeypatch)
    fail(store, "preprocess", "p2", InputError("still wrong"), monkeypatch)
    monkeypatch.setenv(JOB, "t2")
    clock = Turns()
    wait(store, clock, "ingest")
    assert LATE_RESULT_S <= clock.time < LATE_RESULT_S + 10
    clock = Turns()
    with pytest.raises(InputError, match="for good") as caught:
        wait(store, clock)
    assert caught.value.found == "still wrong"
    assert LATE_FAILURE_S <= clock.time < LATE_FAILURE_S + 10


def test_a_short_wait_for_one_step_is_none_for_another(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ingest has run anew and ended before this pod started; preprocess is still to begin."""
    for step in ("ingest", "preprocess", "train"):
        finish(store, step, f"{step}1", monkeypatch)
    finish(store, "ingest", "ingest2", monkeypatch)
    monkeypatch.setenv(JOB, "train2")
    clock = Turns()
    wait(store, clock, "ingest")
    assert LATE_RESULT_S <= clock.time < LATE_RESULT_S + 10
    clock = Turns({20: lambda: finish(store, "preprocess", "preprocess2", monkeypatch)})
    wait(store, clock, "preprocess")
    assert clock.turn == 20, "not the old result"
    assert LATE_RESULT_S < clock.time < NEW_JOB_S


def test_a_step_that_waits_for_nothing_takes_its_old_word_back_too(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail(store, "ingest", "i1", InputError("no images"), monkeypatch)
    monkeypatch.setenv(JOB, "i2")
    begin(store, RUN, "ingest")
    assert read_failure(store, RUN, "ingest") is None
