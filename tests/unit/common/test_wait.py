"""Jobs that were applied together: each waits for what it needs, no longer than it has to."""

from pathlib import Path

import pytest

from components.common.announce import announce
from components.common.errors import InputError, StepError, StoreError
from components.common.progress import make_reporter
from components.common.runs import JOB, point
from components.common.sections import known_steps, root_model
from components.common.store import Store, open_store
from components.common.wait import (
    STORE_DEADLINE_S,
    run_of_settings,
    wait_for_store,
)
from support.waiting import RUN, Turns, finish, wait


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "store"))


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
