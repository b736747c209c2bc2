"""Waiting for what another step of the run leaves: how Jobs that were applied together run in order."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from components.common.canonical import digest_json
from components.common.code import code_version
from components.common.errors import ConveyorError, InputError
from components.common.failed import Failure, UpstreamFailedError, forget_others, read_failure
from components.common.progress import Reporter
from components.common.runs import Pointer, check_run_id, output_of, read_pointer, this_job
from components.common.sections import RootBase
from components.common.store import Store
from components.common.store.base import NO_BUCKET

POLL_S = 2.0
SLOWEST_POLL_S = 10.0
REPORT_S = 30.0
GRACE_S = 60.0
"""For a new Job to take back what its predecessor said of failure."""
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

    A result that an earlier Job of `step` has used already is from an earlier application of the same Jobs: its source
    may have changed since, so it does not count until the new Job of `upstream` has confirmed it (which takes seconds
    where nothing changed). Raises `InputError` where `upstream` failed for good, and at the deadline.
    """
    clock = clock or Clock()
    job = this_job()
    own = read_pointer(store, run_id, step)
    if job is not None:
        forget_others(store, run_id, step, job)
    old = read_failure(store, run_id, upstream)
    began, told, told_at = clock.now(), "", float("-inf")
    while True:
        pointer = read_pointer(store, run_id, upstream)
        used = pointer is not None and _used_before(pointer, own, job)
        if pointer is not None and not used and output_of(store, run_id, upstream) is not None:
            reporter.info(f"{upstream} is there", run=run_id, key=pointer.key[:12])
            return
        waited = clock.now() - began
        failure = read_failure(store, run_id, upstream)
        if failure is not None and failure.final and (failure != old or waited >= GRACE_S):
            raise UpstreamFailedError(step, failure)
        if waited >= deadline_s:
            raise _too_long(step, upstream, run_id, deadline_s, failure, used=used)
        state = _state(upstream, failure, used=used)
        if state != told or clock.now() - told_at >= REPORT_S:
            reporter.info(state, run=run_id, waited_s=round(waited))
            told, told_at = state, clock.now()
        clock.sleep(min(SLOWEST_POLL_S, POLL_S + waited / 60))


def _used_before(pointer: Pointer, own: Pointer | None, job: str | None) -> bool:
    """Whether an earlier Job of this step went through with this very result."""
    if own is None or own.job is None or own.job == job or pointer.job is None:
        return False
    return own.used.get(pointer.step) == pointer.job


def _state(upstream: str, failure: Failure | None, *, used: bool) -> str:
    if used:
        return f"waiting for {upstream} to confirm its earlier result"
    if failure is not None:
        return f"waiting for {upstream}, which failed {failure.tries} time(s) so far: {failure.what}"
    return f"waiting for {upstream}"


def _too_long(
    step: str, upstream: str, run_id: str, deadline_s: float, failure: Failure | None, *, used: bool
) -> InputError:
    if used:
        found = f"only the result that an earlier Job of {step} has used"
        todo = f"delete the finished Job of {upstream} too, and apply again"
    else:
        found = f"{failure.what} (so far)" if failure is not None else "no word of it"
        todo = f"look at the Job and the pod of {upstream}: kubectl describe tells why it does not run"
    return InputError(
        f"{step} waited {deadline_s:.0f} s for {upstream}, in vain",
        where=f"run {run_id}",
        found=found,
        todo=todo,
    )
