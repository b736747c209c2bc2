"""Worker processes for work that may kill its process: one dead worker costs one task, never the run.

Each worker is a fresh interpreter (no fork of a threaded parent, no second import of `__main__`) with one pipe. It
ends with its parent, however that ends (`PR_SET_PDEATHSIG`), and leaves Ctrl-C to it.
"""

import contextlib
import ctypes
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from types import TracebackType
from typing import Any, Generic, TypeVar

from components.common.errors import StepError

TaskT = TypeVar("TaskT")
ResultT = TypeVar("ResultT")

PR_SET_PDEATHSIG = 1
# A worker computes on one core; what it imports must not start a thread for each core of the machine.
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
BOOT = "import sys; sys.path[:] = {path!r}; from components.common.pool import _worker; _worker({read}, {write}, {parent})"


@dataclass(frozen=True, slots=True)
class Crashed(Generic[TaskT]):
    """The worker died, or exceeded the time limit, on this task."""

    task: TaskT
    cause: str


class _Worker:
    def __init__(self, setup: bytes) -> None:
        child_read, parent_write = os.pipe()
        parent_read, child_write = os.pipe()
        boot = BOOT.format(path=sys.path, read=child_read, write=child_write, parent=os.getpid())
        # Native libraries write there what belongs in no log; its last line explains a worker that does not start.
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 kill() closes it
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-c", boot],
                pass_fds=(child_read, child_write),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,  # stdout is for the command's result
                stderr=self._stderr,
                env=os.environ | ONE_THREAD,
            )
        finally:
            os.close(child_read)
            os.close(child_write)
        self.inbox = Connection(parent_write, readable=False)
        self.outbox = Connection(parent_read, writable=False)
        self.started = False
        self.index = -1
        self.deadline = float("inf")
        # A worker that dies while starting is noticed at its first task.
        with contextlib.suppress(OSError):
            self.inbox.send_bytes(setup)

    def kill(self, *, patience_s: float = 0.0) -> str:
        """End it, unless it ends by itself within `patience_s` (its pipe is closed a little before); returns how."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(patience_s)
        self.process.kill()
        code = self.process.wait()
        self.inbox.close()
        self.outbox.close()
        with self._stderr:
            self._stderr.seek(0)
            said = self._stderr.read().decode(errors="replace").split("\n")
        if code < 0:
            return signal.Signals(-code).name
        last = next((line for line in reversed(said) if line.strip()), "")
        return f"exit status {code}: {last[:300]}".rstrip(": ")


class CrashPool(Generic[TaskT, ResultT]):
    """Applies `function(task)` in `num_workers` processes; a context manager that leaves no process behind.

    `function` is a module's function (or a picklable callable). An exception in it is raised in the parent; a death
    of the process is a `Crashed` result, and the worker is replaced. `timeout_s` is the most that one task may take.
    """

    def __init__(
        self, function: Callable[[TaskT], ResultT], num_workers: int, *, timeout_s: float | None = None
    ) -> None:
        self._setup = pickle.dumps(function)
        self._num_workers = max(1, num_workers)
        self._timeout_s = timeout_s
        self._workers: list[_Worker] = []

    def __enter__(self) -> "CrashPool[TaskT, ResultT]":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self._workers:
            worker.kill()
        self._workers.clear()

    def map(self, tasks: Iterable[TaskT], *, ahead: int | None = None) -> Iterator[ResultT | Crashed[TaskT]]:
        """Results in the order of the tasks; at most `ahead` of them are under way or waiting (two a worker)."""
        window = ahead or 2 * self._num_workers
        todo = enumerate(tasks)
        running: dict[int, TaskT] = {}
        finished: dict[int, ResultT | Crashed[TaskT]] = {}
        idle = deque(self._workers)
        busy: list[_Worker] = []
        exhausted, next_out = False, 0
        while True:
            while not exhausted and len(running) + len(finished) < window and (idle or self._may_grow()):
                item = next(todo, None)
                if item is None:
                    exhausted = True
                    break
                worker = idle.popleft() if idle else self._start()
                self._send(worker, *item)
                running[item[0]] = item[1]
                busy.append(worker)
            while next_out in finished:
                yield finished.pop(next_out)
                next_out += 1
            if not running:
                if exhausted:
                    return
                continue
            for worker in self._ready(busy):
                if not worker.started and self._has_started(worker):
                    continue
                busy.remove(worker)
                index = worker.index
                finished[index] = self._receive(worker, running.pop(index))
                if worker in self._workers:
                    idle.append(worker)

    def _may_grow(self) -> bool:
        return len(self._workers) < self._num_workers

    def _start(self) -> _Worker:
        worker = _Worker(self._setup)
        self._workers.append(worker)
        return worker

    def _send(self, worker: _Worker, index: int, task: TaskT) -> None:
        worker.index = index
        worker.deadline = self._deadline() if worker.started else float("inf")
        # A dead worker's pipe is broken; its end is seen when the answer is read.
        with contextlib.suppress(OSError):
            worker.inbox.send_bytes(pickle.dumps(task, protocol=5))

    def _ready(self, busy: list[_Worker]) -> list[_Worker]:
        """Workers with an answer, dead ones and those over their time."""
        nearest = min(worker.deadline for worker in busy)
        timeout = None if nearest == float("inf") else max(0.0, nearest - time.monotonic())
        answered = set(wait([worker.outbox for worker in busy], timeout))
        now = time.monotonic()
        return [worker for worker in busy if worker.outbox in answered or worker.deadline <= now]

    def _has_started(self, worker: _Worker) -> bool:
        """Take its first message; False where its time is over. Raises `StepError` where it died before its first
        task, which is not the task's fault."""
        if not worker.outbox.poll():
            return False
        try:
            worker.outbox.recv_bytes()
        except (EOFError, OSError):
            self._workers.remove(worker)
            raise StepError("a worker process could not start", found=worker.kill(patience_s=5)) from None
        worker.started = True
        # Only now: a busy machine may take long to start it, which is not the task's fault.
        worker.deadline = self._deadline()
        return True

    def _deadline(self) -> float:
        return time.monotonic() + self._timeout_s if self._timeout_s else float("inf")

    def _receive(self, worker: _Worker, task: TaskT) -> ResultT | Crashed[TaskT]:
        try:
            if not worker.outbox.poll():
                raise TimeoutError
            succeeded, value = pickle.loads(worker.outbox.recv_bytes())  # noqa: S301 our own child wrote it
        except (EOFError, OSError, pickle.UnpicklingError) as error:
            self._workers.remove(worker)
            if isinstance(error, TimeoutError):
                worker.kill()
                cause = f"no answer within {self._timeout_s:g} s"
            else:
                cause = worker.kill(patience_s=5)
            return Crashed(task, cause)
        if not succeeded:
            raise value if isinstance(value, BaseException) else StepError(str(value))
        result: ResultT = value
        return result


def _worker(read_fd: int, write_fd: int, parent: int) -> None:
    """What a worker process runs until its pipe ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before we could ask to end with it
        os._exit(1)
    inbox = Connection(read_fd, writable=False)
    outbox = Connection(write_fd, readable=False)
    with contextlib.suppress(EOFError, BrokenPipeError):
        function: Callable[[Any], Any] = pickle.loads(inbox.recv_bytes())  # noqa: S301 our own parent wrote it
        outbox.send_bytes(b"started")
        while True:
            task = pickle.loads(inbox.recv_bytes())  # noqa: S301
            outbox.send_bytes(_answer(function, task))
    os._exit(0)  # libraries' exit handlers have nothing to save here, and some hang


def _answer(function: Callable[[Any], Any], task: Any) -> bytes:
    try:
        return pickle.dumps((True, function(task)), protocol=5)
    except Exception as error:  # noqa: BLE001 it is raised again in the parent
        try:
            return pickle.dumps((False, error))
        except Exception:  # noqa: BLE001 not every exception can be pickled
            return pickle.dumps((False, f"{type(error).__name__}: {error}"))
