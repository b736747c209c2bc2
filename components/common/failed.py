"""Word of a step that failed, for the Jobs that wait for it (`runs/<id>/<step>.ended.json`, see `ends`).

Only Kubernetes Jobs that wait for each other leave it: on a laptop the same process sees the failure, and a launcher
sees the Job's.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from components.common.begun import is_superseded
from components.common.ends import End, change_end, forget_end, read_end
from components.common.errors import ConveyorError, InputError
from components.common.failures import EXIT_INTERRUPTED, error_fields, explain
from components.common.full_disk import noticing_full_disk
from components.common.runs import this_job
from components.common.store.base import Store

TRIES = "CONVEYOR_TRIES"
"""How often the Job starts a pod anew after a failure, plus one."""
GENERATION_OVER = 75  # of a training: another pod's business, and no failure
RETRIED = 3


@dataclass(frozen=True, slots=True)
class Failure:
    """How a step of a run failed."""

    step: str
    job: str
    what: str
    todo: str | None
    tries: int
    """Failures of this Job so far."""
    final: bool
    """The Job will not try again."""
    root: str
    """The step that it began with: this one, unless it waited for one that failed."""


class UpstreamFailedError(InputError):
    """What a step needs will not come."""

    def __init__(self, step: str, failure: Failure) -> None:
        super().__init__(
            f"{step} has nothing to work on: {failure.root} failed for good",
            found=failure.what,
            todo=failure.todo
            or f"look at the log of {failure.root}, then delete the failed Jobs and apply again",
        )
        self.failure = failure


@contextmanager
def telling_failure(store: Store, run_id: str, step: str, *, waiting: bool = False) -> Iterator[None]:
    """Note a failure of the block, and take back what an earlier Job noted. Does nothing outside such a Job.

    A block that ends well takes back what this Job's earlier tries noted too, unless it was only `waiting`: the try
    goes on after it. Where a newer Job of the step has begun, what stands there is that one's.
    """
    job, started = this_job(), time.monotonic()
    if job is None:
        yield
        return
    forget_others(store, run_id, step, job)
    try:
        with noticing_full_disk(step):
            yield
    except BaseException as error:
        explained = explain(error)
        if explained.exit_code not in (GENERATION_OVER, EXIT_INTERRUPTED):
            # A store that does not take the word must not hide what there was to say.
            with suppress(ConveyorError):
                note_failure(store, run_id, step, job, explained, time.monotonic() - started)
        raise
    if not waiting and not is_superseded(store, run_id, step, job):
        forget_end(store, run_id, step)


def note_failure(
    store: Store, run_id: str, step: str, job: str, error: ConveyorError, seconds: float = 0.0
) -> Failure | None:
    """Count one more failed try of `job`, and return the word that it left; None where a newer Job has begun.

    Raises `StoreError`.
    """
    if is_superseded(store, run_id, step, job):
        return None

    def one_more(before: End | None) -> End:
        again = before is not None and before.state == "failed" and before.job == job
        tries = 1 + (int(before.error.get("tries", 1)) if before is not None and again else 0)
        final = error.exit_code != RETRIED or tries >= int(os.environ.get(TRIES) or 1)
        fields = {**error_fields(error), "tries": tries, "final": final, "root": step}
        if isinstance(error, UpstreamFailedError):
            fields |= {"what": error.failure.what, "todo": error.failure.todo, "root": error.failure.root}
        return End(step, "failed", seconds, job, fields)

    return _failure(change_end(store, run_id, step, one_more))


def refuse_ended(store: Store, run_id: str, step: str) -> None:
    """Raise `InputError` where this very Job has failed of what no new try can mend.

    Only an MPIJob starts a pod after that: its launcher's Job knows no exit status that ends it.
    """
    end = read_end(store, run_id, step)
    if end is None or end.state != "failed" or end.job != this_job():
        return
    if end.error.get("exit_code", RETRIED) != RETRIED:
        raise InputError(
            f"{step} has failed for good: {end.error.get('what')}",
            where=f"{store.url}/runs/{run_id}, Job {end.job}",
            todo=f"{end.error.get('todo') or 'see the log of the first pod that failed'}; delete its Job and apply again",
        )


def forget_others(store: Store, run_id: str, step: str, job: str) -> None:
    """Remove the word of an earlier Job of this step: this one starts over."""
    before = read_end(store, run_id, step)
    if before is not None and before.job != job and not is_superseded(store, run_id, step, job):
        forget_end(store, run_id, step)


def read_failure(store: Store, run_id: str, step: str) -> Failure | None:
    """The last word of a failure, None where there is none."""
    end = read_end(store, run_id, step)
    if end is None or end.state != "failed":
        return None
    return _failure(end)


def _failure(end: End) -> Failure:
    error = end.error
    return Failure(
        end.step,
        end.job,
        str(error.get("what")),
        error.get("todo"),
        int(error.get("tries", 1)),
        bool(error.get("final", True)),
        str(error.get("root", end.step)),
    )
