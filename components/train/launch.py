"""Start the workers on this machine, watch them, and start them anew from the newest checkpoint when one dies."""

import json
import queue
from contextlib import ExitStack

from components.common.errors import StepError
from components.common.refs import ModelRef
from components.common.step import StepContext
from components.train.checkpoint import newest_valid
from components.train.job import Job
from components.train.monitor import Monitor
from components.train.processes import Messages, Worker, died_first, started
from components.train.rendezvous import rendezvous

POLL_S = 1.0


def train_in_workers(job: Job, context: StepContext, monitor: Monitor, *, max_restarts: int) -> ModelRef:
    """Train on `world_size` processes. Raises what a worker raised, or `StepError` when they keep dying."""
    for attempt in range(max_restarts + 1):
        found = newest_valid(context.store, context.blobs, context.key, context.reporter.warning)
        attempt_job = job.model_copy(update={"resume": found.tree if found else None})
        died = _attempt(attempt_job, context, monitor, attempt)
        if monitor.done is not None and died is None:
            return ModelRef.model_validate_json(json.dumps(monitor.done["output"]))
        if monitor.errors:
            raise monitor.errors[0]
        how = died.how_it_ended() if died is not None else "the workers ended without a result"
        if attempt < max_restarts:
            context.reporter.warning(f"{how}; starting all of them anew, from the newest checkpoint")
    raise StepError(
        how,
        where=f"after {max_restarts + 1} tries",
        found=(died.tail() or "nothing in its log") if died is not None else None,
        todo="run again to go on from the newest checkpoint; fewer train.workers or a smaller train.batch_size "
        "need less memory",
    )


def _attempt(job: Job, context: StepContext, monitor: Monitor, attempt: int) -> Worker | None:
    """Run all ranks once. Returns the rank that died first, None where all ended well; none is left running."""
    scratch = context.scratch / f"try-{attempt}"
    scratch.mkdir()
    placement = job.resolved.placement
    with ExitStack() as stack:
        environments = stack.enter_context(rendezvous(placement.engine, placement.world_size, scratch))
        messages: Messages = queue.Queue()
        stack.callback(monitor.end_try)
        workers = stack.enter_context(started(job, context.store, scratch, environments, messages))
        return _watch(workers, messages, monitor)


def _watch(workers: list[Worker], messages: Messages, monitor: Monitor) -> Worker | None:
    running = {worker.rank: worker for worker in workers}
    while running:
        try:
            rank, line = messages.get(timeout=POLL_S)
        except queue.Empty:
            rank, line = -1, None
        if line is not None:
            _tell(line, monitor)
            continue
        if rank in running:
            # Its pipe is closed, so it is about to end.
            running[rank].process.wait()
        ended = [worker for worker in running.values() if worker.process.poll() is not None]
        if any(worker.process.returncode for worker in ended):
            _drain(messages, monitor)
            return died_first(ended)
        for worker in ended:
            del running[worker.rank]
    _drain(messages, monitor)
    return None


def _drain(messages: Messages, monitor: Monitor) -> None:
    while True:
        try:
            _, line = messages.get_nowait()
        except queue.Empty:
            return
        if line is not None:
            _tell(line, monitor)


def _tell(line: bytes, monitor: Monitor) -> None:
    fields = json.loads(line)
    monitor(fields.pop("kind"), **fields)
