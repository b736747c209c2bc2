"""One worker process: `python -m components.train.worker`, started by `launch.py`.

It reads its job from a file, joins the others, trains, and reports JSON lines through a pipe. Nothing is imported that
training does not need: two of these start for every training, however small.
"""

import ctypes
import json
import os
import signal
import sys
import threading
import traceback
from pathlib import Path
from typing import Any

PR_SET_PDEATHSIG = 1
JOB, PARENT, MESSAGES, SCRATCH = "CONVEYOR_JOB", "CONVEYOR_PARENT", "CONVEYOR_MESSAGES", "CONVEYOR_SCRATCH"


def die_with_parent() -> None:
    """Have the kernel kill this process when the launcher dies, however it dies."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(os.environ[PARENT]):
        os._exit(1)  # it died before the line above
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the launcher decides


class Pipe:
    """Messages to the launcher, one JSON object a line; safe from several threads."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor, self._lock = descriptor, threading.Lock()

    def __call__(self, kind: str, **fields: Any) -> None:
        line = json.dumps({"kind": kind, **fields}).encode() + b"\n"
        with self._lock:
            while line:
                line = line[os.write(self._descriptor, line) :]


def main() -> int:
    die_with_parent()
    emit = Pipe(int(os.environ[MESSAGES]))

    from components.common.errors import ConveyorError

    try:
        _work(emit)
    except ConveyorError as error:
        emit(
            "error",
            error=type(error).__name__,
            what=error.what,
            where=error.where,
            expected=error.expected,
            found=error.found,
            todo=error.todo,
        )
        return error.exit_code
    except BaseException:  # noqa: BLE001 - whatever it is, the launcher shows the end of this log
        traceback.print_exc()
        return 1
    return 0


def _work(emit: Pipe) -> None:
    from components.common.store import StoreSettings, open_store
    from components.train.collectives.join import join
    from components.train.job import Job
    from components.train.trainer import train

    document = json.loads(Path(os.environ[JOB]).read_text())
    settings = document["store_settings"]
    store = open_store(
        document["store_url"], StoreSettings.model_validate_json(json.dumps(settings)) if settings else None
    )
    job = Job.model_validate_json(json.dumps(document["job"]))
    with join(job.resolved.placement.engine) as collective:
        train(job, collective, store, emit, Path(os.environ[SCRATCH]))


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # Everything is written and closed. What is left are the libraries' threads, and unloading them takes a while.
    os._exit(code)
