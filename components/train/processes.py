"""Worker processes of this machine: started from a job, with a pipe for what they say, ended with their block."""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import components
from components.common.canonical import Json
from components.common.store.base import Store
from components.train.job import Job
from components.train.worker import JOB, MESSAGES, PARENT, SCRATCH

JOIN_S = 1.0
LAST_LINES = 15
LAST_WORDS = (b"Traceback (most recent call last)", b"uncaught exception")
"""With these a worker begins to say why it dies. Most die in another one's wake: `tail` has it, should it be wanted."""

Messages = queue.Queue[tuple[int, bytes | None]]
"""(rank, line) for each message of a worker; None for the line once its pipe is closed."""
Echo = Callable[[int, str], None]


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

    def how_it_ended(self) -> str:
        """In words; the process must have ended."""
        code = self.process.returncode
        if code >= 0:
            return f"training worker {self.rank} failed with exit status {code}"
        name = signal.Signals(-code).name
        memory = ", as the system does when memory runs out" if name == "SIGKILL" else ""
        return f"training worker {self.rank} was killed by {name}{memory}"


def died_first(ended: Sequence[Worker]) -> Worker:
    """Where one was killed, the others fail in its wake: the killed one is to be named."""
    return min(ended, key=lambda worker: (worker.process.returncode >= 0, not worker.process.returncode))


@contextmanager
def started(
    job: Job,
    store: Store,
    scratch: Path,
    environments: Sequence[dict[str, str]],
    messages: Messages,
    *,
    first_rank: int = 0,
    echo: Echo | None = None,
) -> Iterator[list[Worker]]:
    """A worker for each environment; whatever ends the block ends them. `echo` hears what they print.

    To be used in a thread that lives as long as the workers: the kernel ends them with the thread that started them.
    """
    job_file = scratch / "job.json"
    job_file.write_text(json.dumps(_document(job, store)))
    workers: list[Worker] = []
    readers: list[threading.Thread] = []
    try:
        for rank, environment in enumerate(environments, first_rank):
            read_end, write_end = os.pipe()
            try:
                worker = _start(
                    rank, job, job_file, scratch, environment, write_end, keep_output=echo is None
                )
            except BaseException:
                os.close(read_end)
                raise
            finally:
                os.close(write_end)
            workers.append(worker)
            readers.append(_thread(_read, rank, os.fdopen(read_end, "rb"), messages))
            if echo is not None and worker.process.stdout is not None:
                readers.append(_thread(_echo, rank, worker.process.stdout, worker.log, echo))
        yield workers
    finally:
        for worker in workers:
            if worker.process.poll() is None:
                worker.process.kill()
        for worker in workers:
            worker.process.wait()
        for reader in readers:
            reader.join(timeout=JOIN_S)


def _start(
    rank: int,
    job: Job,
    job_file: Path,
    scratch: Path,
    environment: dict[str, str],
    messages: int,
    *,
    keep_output: bool,
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
            stdout=output if keep_output else subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=variables,
            pass_fds=(messages,),
        )
    return Worker(rank, process, log)


def _thread(target: Callable[..., None], rank: int, *arguments: Any) -> threading.Thread:
    thread = threading.Thread(target=target, args=(rank, *arguments), name=f"rank-{rank}", daemon=True)
    thread.start()
    return thread


def _read(rank: int, stream: IO[bytes], messages: Messages) -> None:
    with stream:
        for line in stream:
            # A rank that is killed while it writes leaves half a line.
            if line.endswith(b"\n"):
                messages.put((rank, line))
    messages.put((rank, None))


def _echo(rank: int, stream: IO[bytes], log: Path, echo: Echo) -> None:
    with stream, log.open("ab") as file:
        dies = False
        for line in stream:
            file.write(line)
            file.flush()
            dies = dies or any(mark in line for mark in LAST_WORDS)
            if not dies and (text := line.decode(errors="replace").strip()):
                echo(rank, text)


def _document(job: Job, store: Store) -> Json:
    settings: Any = getattr(store, "settings", None)
    return {
        "job": job.model_dump(mode="json"),
        "store_url": store.url,
        "store_settings": settings.model_dump(mode="json") if settings is not None else None,
    }
