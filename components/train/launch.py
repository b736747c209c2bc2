"""Start the workers on this machine, watch them, and start them anew from the newest checkpoint when one dies."""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import components
from components.common.canonical import Json
from components.common.errors import StepError
from components.common.refs import ModelRef
from components.common.step import StepContext
from components.train.checkpoint import newest_valid
from components.train.job import Job
from components.train.monitor import Monitor
from components.train.rendezvous import rendezvous
from components.train.worker import JOB, MESSAGES, PARENT, SCRATCH

POLL_S = 1.0
LAST_LINES = 15


@dataclass
class Worker:
    """One running rank."""

    rank: int
    process: "subprocess.Popen[bytes]"
    log: Path

    def tail(self) -> str:
        """The last lines that it wrote."""
        lines = [line for line in self.log.read_text(errors="replace").splitlines() if line.strip()]
        return "\n    ".join(lines[-LAST_LINES:])


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
        how = _how(died) if died is not None else "the workers ended without a result"
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
        messages: queue.Queue[tuple[int, bytes | None]] = queue.Queue()
        stack.callback(monitor.end_try)
        workers = stack.enter_context(_started(job, context, scratch, environments, messages))
        return _watch(workers, messages, monitor)


def _watch(
    workers: list[Worker], messages: "queue.Queue[tuple[int, bytes | None]]", monitor: Monitor
) -> Worker | None:
    running = {worker.rank: worker for worker in workers}
    while running:
        try:
            rank, line = messages.get(timeout=POLL_S)
        except queue.Empty:
            rank, line = -1, None
        if line is not None:
            fields = json.loads(line)
            monitor(fields.pop("kind"), **fields)
            continue
        if rank in running:
            # Its pipe is closed, so it is about to end.
            running[rank].process.wait()
        ended = [worker for worker in running.values() if worker.process.poll() is not None]
        if any(worker.process.returncode for worker in ended):
            _drain(messages, monitor)
            # Where one was killed, the others fail in its wake: name the killed one.
            return min(
                ended, key=lambda worker: (worker.process.returncode >= 0, not worker.process.returncode)
            )
        for worker in ended:
            del running[worker.rank]
    _drain(messages, monitor)
    return None


def _drain(messages: "queue.Queue[tuple[int, bytes | None]]", monitor: Monitor) -> None:
    while True:
        try:
            _, line = messages.get_nowait()
        except queue.Empty:
            return
        if line is not None:
            fields = json.loads(line)
            monitor(fields.pop("kind"), **fields)


@contextmanager
def _started(
    job: Job,
    context: StepContext,
    scratch: Path,
    environments: list[dict[str, str]],
    messages: "queue.Queue[tuple[int, bytes | None]]",
) -> Iterator[list[Worker]]:
    """The worker processes; whatever ends the block ends them."""
    job_file = scratch / "job.json"
    job_file.write_text(json.dumps(_document(job, context)))
    workers: list[Worker] = []
    readers: list[threading.Thread] = []
    try:
        for rank, environment in enumerate(environments):
            read_end, write_end = os.pipe()
            try:
                worker = _start(rank, job, job_file, scratch, environment, write_end)
            except BaseException:
                os.close(read_end)
                raise
            finally:
                os.close(write_end)
            workers.append(worker)
            reader = threading.Thread(
                target=_read,
                args=(rank, os.fdopen(read_end, "rb"), messages),
                name=f"rank-{rank}",
                daemon=True,
            )
            reader.start()
            readers.append(reader)
        yield workers
    finally:
        for worker in workers:
            if worker.process.poll() is None:
                worker.process.kill()
        for worker in workers:
            worker.process.wait()
        for reader in readers:
            reader.join(timeout=POLL_S)


def _start(
    rank: int, job: Job, job_file: Path, scratch: Path, environment: dict[str, str], messages: int
) -> Worker:
    own = scratch / f"rank-{rank}"
    own.mkdir()
    threads = str(job.resolved.placement.threads)
    root = str(Path(components.__file__).resolve().parents[1])
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    variables = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "OMP_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
        JOB: str(job_file),
        PARENT: str(os.getpid()),
        MESSAGES: str(messages),
        SCRATCH: str(own),
        **environment,
    }
    log = scratch / f"rank-{rank}.log"
    with log.open("wb") as output:
        # -P: a file torch.py in the user's folder must not take torch's place.
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "components.train.worker"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=variables,
            pass_fds=(messages,),
        )
    return Worker(rank, process, log)


def _read(rank: int, stream: IO[bytes], messages: "queue.Queue[tuple[int, bytes | None]]") -> None:
    with stream:
        for line in stream:
            # A rank that is killed while it writes leaves half a line.
            if line.endswith(b"\n"):
                messages.put((rank, line))
    messages.put((rank, None))


def _document(job: Job, context: StepContext) -> Json:
    settings: Any = getattr(context.store, "settings", None)
    return {
        "job": job.model_dump(mode="json"),
        "store_url": context.store.url,
        "store_settings": settings.model_dump(mode="json") if settings is not None else None,
    }


def _how(worker: Worker) -> str:
    code = worker.process.returncode
    if code >= 0:
        return f"training worker {worker.rank} failed with exit status {code}"
    name = signal.Signals(-code).name
    memory = ", as the system does when memory runs out" if name == "SIGKILL" else ""
    return f"training worker {worker.rank} was killed by {name}{memory}"
