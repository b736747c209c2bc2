"""Jobs that were applied together: each waits for what it needs, and for nothing that will not come."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from components.common.announce import announce
from components.common.canonical import digest_bytes
from components.common.errors import InputError, StepError, StoreError
from components.common.failed import TRIES, Failure, read_failure, refuse_ended, telling_failure
from components.common.main import run_step
from components.common.progress import make_reporter
from components.common.records import Record, publish_record
from components.common.refs import EvaluationRef
from components.common.runs import JOB, point
from components.common.sections import RootBase, StoreSection, known_steps, root_model
from components.common.store import Store, open_store
from components.common.wait import (
    FAILED_S,
    LATE_FAILURE_S,
    LATE_RESULT_S,
    NEW_JOB_S,
    STORE_DEADLINE_S,
    Clock,
    begin,
    run_of_settings,
    wait_for_step,
    wait_for_store,
)

DIGEST = digest_bytes(b"x")
RUN = "nightly"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "store"))


class Turns(Clock):
    """A clock that only waiting moves; `at` happens after so many turns."""

    def __init__(self, at: dict[int, Callable[[], object]] | None = None) -> None:
        self.time, self.turn, self.at = 0.0, 0, at or {}
        super().__init__(now=lambda: self.time, sleep=self._sleep)

    def _sleep(self, seconds: float) -> None:
        self.time += seconds
        self.turn += 1
        self.at.get(self.turn, lambda: None)()


def finish(
    store: Store,
    step: str,
    job: str | None,
    monkeypatch: pytest.MonkeyPatch,
    used: dict[str, str] | None = None,
) -> None:
    """What the Job `job` of `step` announces, and leaves in the run."""
    if job is not None:
        announce(store, RUN, step, job)
    output = EvaluationRef(tree=DIGEST, model=DIGEST, split="test", num_samples=3, metrics={})
    publish_record(
        store,
        Record(
            step=step,
            key="1" * 64,
            code=DIGEST,
            config={},
            inputs={},
            depends_on={},
            output=output.to_value(),
        ),
    )
    with monkeypatch.context() as patch:
        patch.setenv(JOB, job) if job else patch.delenv(JOB, raising=False)
        point(store, RUN, step, "1" * 64, used=used or {})


def fail(
    store: Store, step: str, job: str, error: Exception, monkeypatch: pytest.MonkeyPatch, tries: int = 1
) -> None:
    announce(store, RUN, step, job)
    with monkeypatch.context() as patch:
        patch.setenv(JOB, job)
        patch.setenv(TRIES, str(tries))
        with pytest.raises(type(error)), telling_failure(store, RUN, step):
            raise error


def wait(store: Store, clock: Clock, upstream: str = "preprocess", deadline_s: float = 3600) -> None:
    wait_for_step(
        store, RUN, "train", upstream, make_reporter(quiet=True), deadline_s=deadline_s, clock=clock
    )


def test_it_ends_when_the_result_is_there(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Turns({3: lambda: finish(store, "preprocess", "p1", monkeypatch)})
    monkeypatch.setenv(JOB, "t1")
    wait(store, clock)
    assert clock.turn == 3


def test_a_pointer_to_a_record_that_was_collected_is_no_result(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    point(store, RUN, "preprocess", "2" * 64)
    clock = Turns({2: lambda: finish(store, "preprocess", None, monkeypatch)})
    wait(store, clock)
    assert clock.turn == 2


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


def test_a_store_that_is_away_for_a_while_costs_no_try(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(JOB, "t1")
    pointer = tmp_path / "store" / "runs" / RUN / "preprocess.json"

    def away() -> None:
        pointer.symlink_to(pointer)  # too many levels of links: neither there nor missing

    def back() -> None:
        pointer.unlink()
        finish(store, "preprocess", "p1", monkeypatch)

    clock = Turns({1: away, 60: back})
    wait(store, clock)
    assert clock.turn == 60
    pointer.unlink()
    gone = Turns({1: away})
    with pytest.raises(StoreError):
        wait(store, gone)
    assert STORE_DEADLINE_S <= gone.time < 1.1 * STORE_DEADLINE_S


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


def test_the_deadline_says_what_to_look_at(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(JOB, "t2")
    with pytest.raises(InputError, match="waited 60 s for preprocess") as caught:
        wait(store, Turns(), deadline_s=60)
    assert "kubectl describe" in str(caught.value)
    finish(store, "preprocess", "p1", monkeypatch)
    announce(store, RUN, "preprocess", "p2")
    with pytest.raises(InputError, match="waited 60 s") as caught:
        wait(store, Turns(), deadline_s=60)
    assert "from before the newest Job of preprocess" in str(caught.value)


def test_the_store_may_come_later_than_the_step(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    store = open_store(str(blocked / "store"))
    wait_for_store(store, make_reporter(quiet=True), clock=Turns({2: blocked.unlink}))
    blocked_again = tmp_path / "other"
    blocked_again.write_text("in the way")
    with pytest.raises((StoreError, StepError, InputError)):
        wait_for_store(open_store(str(blocked_again / "s")), make_reporter(quiet=True), clock=Turns())


def test_a_run_is_named_by_settings_code_and_namespace() -> None:
    packages = known_steps("components.ingest")
    model = root_model(packages)
    plain = run_of_settings("digits", model(), packages)
    assert plain.startswith("digits-")
    assert plain == run_of_settings("digits", model(), packages)
    changed = model.model_validate({"train": {"epochs": 3}})
    assert plain != run_of_settings("digits", changed, packages)
    assert plain != run_of_settings("digits", model(), packages, "another-namespace")
    elsewhere = model.model_validate({"kubernetes": {"priority_class": "low"}})
    assert plain == run_of_settings("digits", elsewhere, packages), "how it is run makes no other run"
