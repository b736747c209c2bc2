"""The container beside a step's: it outlives the others, and says what they could not where they were killed.

Whoever is killed for memory leaves no word, and those that wait for it would wait until their deadline. So each process
of a step's pod leaves a mark first of all, and removes it however it ends, interrupted too. The kubelet ends this
container after the others: where the mark is still there by then, its process was killed.

Imports nothing but the standard library, since it is there for as long as its step, and only the end has work for it.
"""

import os
import signal
from contextlib import suppress
from functools import cache
from pathlib import Path

MARK = "CONVEYOR_MARK"
"""The mark's path, on a disk that the containers of the pod share; unset where no container watches."""
MEMORY_LIMIT = "CONVEYOR_MEMORY_LIMIT"
"""MiB that the step's container may use."""
STEP, WAIT, FULL_DISK = "step", "wait", "full disk"
"""Who runs, as the mark says it; the last one where it is about to be ended for that."""


def mark_running(who: str) -> None:
    """From now on a death of this process is one without a word."""
    mark = _mark()
    if mark is not None:
        # A disk that takes no mark is the step's to tell of.
        with suppress(OSError):
            mark.write_text(who)


def unmark_running() -> None:
    """The process ends by itself. Removing needs no room on a disk that is full."""
    mark = _mark()
    if mark is not None:
        with suppress(OSError):
            mark.unlink()


@cache
def stand_by() -> str | None:
    """Return when the kubelet ends this container: who was killed without a word, if somebody was. Waits only once."""
    signals = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
    # Blocked, not handled: the signal waits for us, not we for it, and no other comes between what follows.
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    signal.sigwait(signals)
    mark = _mark()
    if mark is None:
        return None
    try:
        return mark.read_text() or STEP
    except FileNotFoundError:
        return None


def _mark() -> Path | None:
    path = os.environ.get(MARK)
    return Path(path) if path else None
