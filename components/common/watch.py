"""The container beside a step's: it outlives the step's, and says what that one could not where it was killed.

Whoever is killed for memory leaves no word, and those that wait for it would wait until their deadline. So the container
that waited leaves a mark in the pod's /tmp when it lets the step begin, and the step removes it however it ends. The
kubelet ends this container after the step's: where the mark is still there by then, the step was killed.

Imports nothing but the standard library, since it is there for as long as its step, and only the end has work for it.
"""

import os
import signal
from contextlib import suppress
from functools import cache
from pathlib import Path

MARK = "conveyor-step-is-running"
MEMORY_LIMIT = "CONVEYOR_MEMORY_LIMIT"
"""MiB that the step's container may use."""


def mark_running() -> None:
    """From now on a death of this pod's step is one without a word."""
    _mark().touch()


def unmark_running() -> None:
    """The step does not run, or has said what there is to say. Removing needs no room on a disk that is full."""
    with suppress(OSError):
        _mark().unlink()


@cache
def stand_by() -> bool:
    """Return when the kubelet ends this container: whether the step was killed without a word. Waits only once."""
    signals = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
    # Blocked, not handled: the signal waits for us, not we for it, and no other comes between what follows.
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    signal.sigwait(signals)
    return _mark().exists()


def _mark() -> Path:
    return Path(os.environ.get("TMPDIR") or "/tmp", MARK)  # noqa: S108 - the pod's own
