"""The edge of every command line: one clear error, the right exit status, nothing left running."""

import atexit
import errno
import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, NoReturn, TextIO

from components.common.errors import ConveyorError, StepError

if TYPE_CHECKING:
    import psutil

EXIT_INTERRUPTED = 130
GRACE_S = 3.0
AGAIN_S = 0.01
TERMINATION_LOG = Path("/dev/termination-log")
WORD_BYTES = 700
"""Of each part of an error that a pod leaves behind: with quotes and escapes, five of them stay below 4096 bytes."""

_SYSTEM_CURES = {
    errno.ENOSPC: ("the disk is full", "free some space (or set TMPDIR to another disk) and run again"),
    errno.EDQUOT: ("your disk quota is used up", "free some space and run again"),
    errno.EROFS: ("the file system is read-only", "choose a store, or a TMPDIR, that can be written to"),
    errno.EACCES: ("permission was denied", "check who may read and write there"),
    errno.EMFILE: ("too many files are open", "raise the limit with ulimit -n"),
    errno.ENOMEM: ("there is not enough memory", "lower the number of workers or the batch size"),
}


class InterruptedByUser(ConveyorError):
    """Ctrl-C or SIGTERM: nothing is lost."""

    exit_code = EXIT_INTERRUPTED


def explain(error: BaseException) -> ConveyorError:
    """The error as a person should see it. Unknown ones are named as what they are: a fault of ours."""
    if isinstance(error, ConveyorError):
        return error
    if isinstance(error, KeyboardInterrupt):
        return InterruptedByUser(
            "interrupted", todo="run the same command again: it goes on where it stopped"
        )
    if isinstance(error, OSError) and error.errno in _SYSTEM_CURES:
        what, todo = _SYSTEM_CURES[error.errno]
        return StepError(
            what, where=str(error.filename) if error.filename else None, found=str(error), todo=todo
        )
    if isinstance(error, MemoryError):
        what, todo = _SYSTEM_CURES[errno.ENOMEM]
        return StepError(what, todo=todo)
    if isinstance(error, ModuleNotFoundError):
        return StepError(
            f"the Python package {error.name} is not installed",
            todo="make setup installs everything; conveyor doctor says what is missing",
        )
    found = f"{type(error).__name__}: {error}".strip().splitlines()
    return StepError(
        "something failed that Conveyor has no explanation for",
        found=found[0] if found else None,
        todo="run again with --debug for the traceback, and report it",
    )


def print_error(error: ConveyorError, stream: TextIO | None = None) -> None:
    """On stderr, in red at a terminal, as one JSON line in a container (and in the pod's termination message)."""
    stream = stream or sys.stderr
    _leave_word(error)
    if os.environ.get("CONVEYOR_LOG_FORMAT") == "json":
        line = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "level": "error",
            "message": error.what,
            **error_fields(error),
        }
        print(json.dumps(line), file=stream, flush=True)
        return
    colour = stream.isatty() and not os.environ.get("NO_COLOR")
    label = "interrupted" if isinstance(error, InterruptedByUser) else "error"
    head = f"\033[1;31m{label}:\033[0m" if colour else f"{label}:"
    text = str(error)
    if isinstance(error, InterruptedByUser):
        head, text = head.replace(f"{label}:", f"{label}"), text.removeprefix("interrupted")
        print(f"{head}{text}", file=stream, flush=True)
        return
    print(f"{head} {text}", file=stream, flush=True)


def _leave_word(error: ConveyorError) -> None:
    """In a pod: what `kubectl describe` and whoever launched it read of how it ended."""
    if "KUBERNETES_SERVICE_HOST" not in os.environ or not TERMINATION_LOG.is_file():
        return
    # The whole message may have 4096 bytes; JSON that was cut is no JSON.
    fields = {name: _cut(value) for name, value in error_fields(error).items()}
    with suppress(OSError):
        TERMINATION_LOG.write_text(json.dumps(fields, ensure_ascii=False))


def _cut(value: str | int | None) -> str | int | None:
    if not isinstance(value, str) or len(value.encode()) <= WORD_BYTES:
        return value
    return value.encode()[:WORD_BYTES].decode(errors="ignore") + "…"


def error_fields(error: ConveyorError) -> dict[str, str | int | None]:
    """The error as JSON: what, where, expected, found, todo, exit_code."""
    return {
        "what": error.what,
        "where": error.where,
        "expected": error.expected,
        "found": error.found,
        "todo": error.todo,
        "exit_code": error.exit_code,
    }


@contextmanager
def graceful() -> Iterator[None]:
    """SIGTERM and SIGHUP end the block as Ctrl-C does, and whatever ends it leaves no child behind."""
    before = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)}
    hook, again = sys.unraisablehook, list[threading.Timer]()

    def interrupt(number: int, _frame: FrameType | None) -> None:
        # Once only: a second signal must not break the tidying up.
        for each in before:
            signal.signal(each, signal.SIG_IGN)
        caught.append(number)
        raise KeyboardInterrupt

    def arm() -> None:
        for each, handler in before.items():
            # What the caller ignores stays ignored: nohup, and jobs that a script put in the background.
            if handler is not signal.SIG_IGN:
                signal.signal(each, interrupt)

    def unraisable(lost: "sys.UnraisableHookArgs") -> None:
        # Python drops what is raised in the callback of a weak reference (imports are full of them) or in __del__.
        # An interruption that hit there would be lost for good, so it comes once more, a moment later.
        if not (caught and lost.exc_type is KeyboardInterrupt):
            hook(lost)
            return
        arm()
        again.append(threading.Timer(AGAIN_S, os.kill, (os.getpid(), caught[-1])))
        again[-1].daemon = True
        again[-1].start()

    caught: list[int] = []
    theirs = _children()
    arm()
    sys.unraisablehook = unraisable
    try:
        yield
    except BaseException:
        end_children(spare=theirs)
        raise
    finally:
        for timer in again:
            timer.cancel()
        sys.unraisablehook = hook
        for each, handler in before.items():
            signal.signal(each, handler)


def end_children(spare: Collection["psutil.Process"] = ()) -> None:
    """End every process below this one but for `spare` and what is below those: asked first, killed where it stays."""
    import psutil

    children = []
    for child in _children():
        if child not in spare:
            with suppress(psutil.NoSuchProcess):
                children += [child, *child.children(recursive=True)]
    for child in children:
        with suppress(psutil.NoSuchProcess):
            child.terminate()
    _, alive = psutil.wait_procs(children, timeout=GRACE_S)
    for child in alive:
        with suppress(psutil.NoSuchProcess):
            child.kill()
    psutil.wait_procs(alive, timeout=GRACE_S)


def _children() -> list["psutil.Process"]:
    import psutil

    return psutil.Process().children()


def report_failure(error: BaseException, *, debug: bool = False) -> int:
    """Print the error (with its traceback where asked for) and return the exit status."""
    if debug and not isinstance(error, KeyboardInterrupt):
        traceback.print_exception(error)
    explained = explain(error)
    print_error(explained)
    return explained.exit_code


def leave(status: int) -> NoReturn:
    """End the process at once with that status: its blocks have ended, so all that needs tidying up is tidied up.

    Python's own way out would first take torch, DALI and ONNX Runtime apart, which is a second and a half of a run. And
    a KeyboardInterrupt that hits inside `exec` of a string (a dataclass being made during an import) leaves a flag in
    CPython by which it later kills itself with SIGINT instead of exiting with our status.
    """
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(status)
