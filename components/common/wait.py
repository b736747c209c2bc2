"""Waiting for what another step of the run leaves: how Jobs that were applied together run in order."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from components.common.announce import announce, settle
from components.common.begun import Begun, read_begun
from components.common.canonical import digest_json
from components.common.code import code_version
from components.common.errors import ConveyorError, InputError, StoreError
from components.common.failed import Failure, UpstreamFailedError, forget_others, read_failure
from components.common.progress import Reporter
from components.common.runs import check_run_id, output_of, read_pointer, this_job
from components.common.sections import RootBase
from components.common.store import Store
from components.common.store.base import NO_BUCKET

POLL_S = 2.0
SLOWEST_POLL_S = 10.0
REPORT_S = 30.0
NEW_JOB_S = 120.0
"""For a new Job to announce itself where a result of an earlier application is there. None comes where only failed Jobs
were deleted and applied again: the finished one still stands, and its result is right."""
FAILED_S = 600.0
"""For a new Job to announce itself where one of an earlier application failed for good: its node may have to be made, its
image to be pulled. Longer than `NEW_JOB_S`, since nothing good comes of going on without it."""
LATE_RESULT_S = 30.0
LATE_FAILURE_S = 60.0
"""The same where all speaks for the Job that ended being of this application: this one's first pod was only later."""
STORE_DEADLINE_S = 600.0
"""For the store to answer: it may be started together with the steps. Later it is an error, with its cause."""


@dataclass
class Clock:
    """Time, as far as waiting needs it; tests bring their own."""

    now: Callable[[], float] = field(default=time.monotonic)
    sleep: Callable[[float], None] = field(default=time.sleep)


def run_of_settings(prefix: str, config: RootBase, packages: dict[str, str], namespace: str = "") -> str:
    """`prefix`-<digest>: the same settings and code find the same run, others never meet its pointers.

    Computed by every pod for itself. The code is that of the installed package, whatever the image is called.
    """
    code = {name: code_version(package) for name, package in packages.items()}
    settings = config.model_dump(mode="json", exclude={"kubernetes"})
    digest = digest_json({"settings": settings, "code": code, "namespace": namespace})
    return check_run_id(f"{prefix}-{digest.removeprefix('sha256:')[:8]}")


def wait_for_store(
    store: Store, reporter: Reporter, *, deadline_s: float = STORE_DEADLINE_S, clock: Clock | None = None
) -> None:
    """Return when the store answers and can be written to. Raises what keeps it from that: at the deadline, or at once
    where waiting is no cure (wrong credentials)."""
    clock = clock or Clock()
    end, told = clock.now() + deadline_s, ""
    while True:
        try:
            store.check()
        except ConveyorError as error:
            # Another secret or address will not come by itself; the bucket may be about to be made.
            hopeless = isinstance(error, InputError) and error.what != NO_BUCKET
            if hopeless or clock.now() >= end:
                raise
            if error.what != told:
                told = error.what
                reporter.info("waiting for the store", store=store.url, found=error.what)
            clock.sleep(POLL_S)
        else:
            return


def begin(store: Store, run_id: str, step: str) -> Begun | None:
    """Announce this Job to the others, and take back what an earlier one said of failure; None outside such a Job."""
    job = this_job()
    if job is None:
        return None
    begun = announce(store, run_id, step, job)
    forget_others(store, run_id, step, job)
    return begun


def wait_for_step(
    store: Store,
    run_id: str,
    step: str,
    upstream: str,
    reporter: Reporter,
    *,
    deadline_s: float,
    clock: Clock | None = None,
) -> None:
    """Return when `upstream` has left a result in the run that `step` can start from.

    What was there when the Job of `step` began may be from an earlier application of the same Jobs, and its source may
    have changed since: it does not count until the new Job of `upstream` has confirmed it (which takes seconds where
    nothing changed), or none has come within `NEW_JOB_S`. Nor does a failure from then, for `FAILED_S`. Both are shorter
    where it most likely is of the same application (`Begun.outlived`). Raises `InputError` where `upstream` failed for
    good, and at the deadline; `StoreError` where the store does not answer for `STORE_DEADLINE_S`.
    """
    clock = clock or Clock()
    start, told, told_at = clock.now(), "", float("-inf")
    answered, begun, view = start, None, None
    while True:
        waited = clock.now() - start
        try:
            begun = begun or begin(store, run_id, step)
            view = _look(store, run_id, upstream, begun)
            if view.key is not None and (not view.is_old or waited >= view.result_s):
                # A short wait was this step's alone: others may still be due.
                if begun is not None and view.is_old and not view.is_recent:
                    settle(store, run_id, begun)
                reporter.info(f"{upstream} is there", run=run_id, key=view.key[:12])
                return
        except StoreError as error:
            # Every pod that waits would lose a try otherwise, and none of them can mend it.
            if clock.now() - answered >= STORE_DEADLINE_S:
                raise
            state = f"waiting for the store to answer again: {error.what}"
        else:
            answered, state = clock.now(), _state(upstream, view)
            failure = view.failure
            if failure is not None and failure.final and (not view.failed_before or waited >= view.failure_s):
                raise UpstreamFailedError(step, failure)
        if waited >= deadline_s:
            raise _too_long(step, upstream, run_id, deadline_s, view)
        if state != told or clock.now() - told_at >= REPORT_S:
            reporter.info(state, run=run_id, waited_s=round(waited))
            told, told_at = state, clock.now()
        clock.sleep(min(SLOWEST_POLL_S, POLL_S + waited / 60))


@dataclass(frozen=True, slots=True)
class _View:
    """What the run holds of the step that is waited for."""

    key: str | None
    """Of a result that its newest Job has made or confirmed."""
    is_old: bool
    """That result was there when the Job that waits began."""
    unconfirmed: bool
    """There is a result, and a newer Job has begun to look whether it still holds."""
    failure: Failure | None
    """Of its newest Job."""
    failed_before: bool
    """It had failed for good when the Job that waits began."""
    is_recent: bool
    """What was there then is most likely of the same application."""

    @property
    def result_s(self) -> float:
        """How long an old result waits for a new Job."""
        return LATE_RESULT_S if self.is_recent else NEW_JOB_S

    @property
    def failure_s(self) -> float:
        """How long an old failure waits for one."""
        return LATE_FAILURE_S if self.is_recent else FAILED_S


def _look(store: Store, run_id: str, upstream: str, begun: Begun | None) -> _View:
    # The pointer first: a Job announces itself before it points, so what is newest is no older than what points.
    pointer = read_pointer(store, run_id, upstream)
    newest = read_begun(store, run_id, upstream)
    key, is_old, unconfirmed = None, False, False
    if pointer is not None:
        made_by = pointer.job
        unconfirmed = newest is not None and made_by is not None and newest.job != made_by
        if not unconfirmed and output_of(store, run_id, upstream) is not None:
            key = pointer.key
        if begun is not None and made_by is not None:
            is_old = begun.there.get(upstream) == made_by and not begun.settled
    failure = read_failure(store, run_id, upstream)
    if failure is not None and newest is not None and newest.job != failure.job:
        failure = None  # The newer Job is about to take it back.
    before = failure is not None and begun is not None and begun.failed.get(upstream) == failure.job
    is_recent = begun is not None and begun.outlived(newest)
    return _View(key, is_old, unconfirmed, failure, before, is_recent)


def _state(upstream: str, view: _View) -> str:
    failure = view.failure
    if failure is not None and failure.final:
        return (
            f"waiting for a new Job of {upstream}, which failed before this one began: {failure.what}; "
            f"where none begins, that counts after {view.failure_s:.0f} s"
        )
    if failure is not None:
        return f"waiting for {upstream}, which failed {failure.tries} time(s) so far: {failure.what}"
    if view.unconfirmed:
        return f"waiting for {upstream} to confirm its earlier result"
    if view.key is not None:
        return (
            f"waiting for a new Job of {upstream} to confirm its earlier result; "
            f"where none begins, it counts after {view.result_s:.0f} s"
        )
    return f"waiting for {upstream}"


def _too_long(step: str, upstream: str, run_id: str, deadline_s: float, view: _View | None) -> InputError:
    todo = f"look at the Job and the pod of {upstream}: kubectl describe tells why it does not run"
    if view is None:
        found = "no answer of the store"
    elif view.failure is not None:
        found = f"{view.failure.what} (so far)"
    elif view.unconfirmed:
        found = f"only a result from before the newest Job of {upstream}"
        todo += "; where it is gone, delete all Jobs of the run and apply again"
    else:
        found = "no word of it"
    return InputError(
        f"{step} waited {deadline_s:.0f} s for {upstream}, in vain",
        where=f"run {run_id}",
        found=found,
        todo=todo,
    )
