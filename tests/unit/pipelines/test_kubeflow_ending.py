"""How the last task of a Kubeflow run reads what the others left, whatever word Kubeflow has for it."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import support.dummy.run
from components.common.ends import End, note_end
from components.common.progress import QuietReporter
from components.common.step import execute
from components.common.store import Store, open_store
from pipelines.kubeflow import ending
from pipelines.kubeflow.ending import collect, end_run, shown
from support.dummy.config import DummyConfig

NAMES = ("dummy", "other")
FAILED = {"what": "it broke", "todo": "mend it", "exit_code": 2}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path))


def work(store: Store, run: str = "r") -> None:
    execute(support.dummy.run, DummyConfig(), support.dummy.run.Inputs(), store, QuietReporter(), run_id=run)


@pytest.mark.parametrize("state", ["SUCCEEDED", "COMPLETE", "RUNNING", "FAILED"])
def test_all_steps_that_noted_their_end_make_a_success(store: Store, state: str) -> None:
    work(store)
    note_end(store, "r", End("dummy", "reused", 2.0, "job"))
    run = collect(store, "r", "job", state, ("dummy",))
    assert run.error is None
    assert run.outcomes["dummy"].state == "reused"
    assert run.outcomes["dummy"].seconds == 2.0
    assert shown(run)["exit_code"] == 0


@pytest.mark.parametrize("state", ["FAILED", "RUNNING", "COMPLETE"])
def test_a_step_that_noted_its_failure_is_the_one_that_failed(store: Store, state: str) -> None:
    work(store)
    note_end(store, "r", End("dummy", "done", 1.0, "job"))
    note_end(store, "r", End("other", "failed", 3.0, "job", FAILED))
    run = collect(store, "r", "job", state, NAMES)
    assert (run.failed_step, run.failed_seconds) == ("other", 3.0)
    assert run.error is not None
    assert (run.error.what, run.error.todo, run.exit_code()) == ("it broke", "mend it", 2)
    assert list(run.outcomes) == ["dummy"]


def test_a_pod_that_died_without_a_word(store: Store) -> None:
    note_end(store, "r", End("dummy", "done", 1.0, "job"))
    run = collect(store, "r", "job", "FAILED", NAMES)
    assert run.failed_step == "other"
    assert run.error is not None
    assert "without a word" in run.error.what
    assert run.exit_code() == 3


def test_what_an_earlier_run_of_the_name_left_does_not_count(store: Store) -> None:
    work(store)
    note_end(store, "r", End("dummy", "failed", 1.0, "yesterday's", FAILED))
    run = collect(store, "r", "job", "FAILED", NAMES)
    assert run.error is not None
    assert "without a word" in run.error.what
    assert run.outcomes == {}


def test_a_cancelled_run(store: Store) -> None:
    run = collect(store, "r", "job", "CANCELED", NAMES)
    assert run.error is not None
    assert "cancelled" in run.error.what


@pytest.mark.parametrize(
    ("state", "training_pods", "config", "ended"),
    [
        ("RUNNING", 2, "", [None]),  # what Kubeflow says of a run that was terminated
        ("FAILED", 2, "kubernetes: {namespace: vision}", ["vision"]),
        ("FAILED", 0, "kubernetes: {training: {pods: 4}}", [None]),
        ("FAILED", 2, "train: {epoch: 1}", [None]),
        ("FAILED", 1, "kubernetes: {training: {pods: 4}}", []),
        ("FAILED", 0, "", []),
        ("COMPLETE", 2, "", []),
    ],
)
@pytest.mark.parametrize("has_store", [True, False])
def test_a_run_without_success_ends_its_training_in_other_pods(
    state: str,
    training_pods: int,
    config: str,
    ended: list[str | None],
    has_store: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Even where its store cannot be reached any more, or its settings are wrong."""
    asked: list[str | None] = []
    monkeypatch.setattr(ending, "end_training", lambda namespace, _: asked.append(namespace))
    (tmp_path / "file").touch()
    metrics: Any = SimpleNamespace(log_metric=lambda *_: None)
    page: Any = SimpleNamespace(path=str(tmp_path / "page"), metadata={})
    told: dict[str, Any] = {"job": "job", "steps": "dummy=support.dummy", "metrics": metrics, "page": page}
    where = tmp_path / ("store" if has_store else "file")
    try:
        end_run(state, "r", str(where), config, training_pods=training_pods, **told)
    except SystemExit:
        assert not has_store
    assert asked == ended
