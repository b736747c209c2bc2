"""Jobs of a run that wait for each other, on a clock that only waiting moves."""

from collections.abc import Callable

import pytest

from components.common.announce import announce
from components.common.canonical import digest_bytes
from components.common.failed import TRIES, telling_failure
from components.common.progress import make_reporter
from components.common.records import Record, publish_record
from components.common.refs import EvaluationRef
from components.common.runs import JOB, point
from components.common.store import Store
from components.common.wait import (
    Clock,
    wait_for_step,
)

DIGEST = digest_bytes(b"x")
RUN = "nightly"


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
