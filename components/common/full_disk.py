"""A pod that is ended because its /tmp holds more than it may: all that it gets is SIGTERM, and two seconds.

The kubelet evicts it without the condition that tells a Job of a drained node, so the Job counts a failure; a process
that took it for an interruption would leave no word of that.
"""

import os
import signal
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from components.common.errors import StepError
from components.common.watch import FULL_DISK, MARK, mark_running, unmark_running

DISK_LIMIT = "CONVEYOR_DISK_LIMIT"
"""Bytes that the folder with the mark (/tmp) may hold; unset where nobody waits for a word."""
SIZED_AS = "CONVEYOR_SIZED_AS"
"""Whose part of `kubernetes.resources` the pod gets, where that is not the step's own."""


def full_disk(step: str) -> StepError:
    """What such a pod has failed of."""
    limit = os.environ.get(DISK_LIMIT)
    return StepError(
        f"{step} was evicted: its /tmp was full" + (f" (limit {int(limit) >> 20} MiB)" if limit else ""),
        todo=f"raise kubernetes.resources.{sized_as(step)}.disk",
    )


def sized_as(step: str) -> str:
    """Where in `kubernetes.resources` this pod's are set."""
    return os.environ.get(SIZED_AS) or step


@contextmanager
def noticing_full_disk(step: str) -> Iterator[None]:
    """Raise `StepError` in place of the interruption where SIGTERM finds more in /tmp than it may hold."""
    mark, limit = os.environ.get(MARK), os.environ.get(DISK_LIMIT)
    before = signal.getsignal(signal.SIGTERM)
    if not (mark and limit and callable(before) and threading.current_thread() is threading.main_thread()):
        yield
        return
    folder, full = Path(mark).parent, False

    def look(number: int, frame: FrameType | None) -> None:
        # At once: whatever ends the step tidies up.
        nonlocal full
        full = bytes_in(folder) > int(limit)
        if full:
            mark_running(FULL_DISK)  # for the case that two seconds are not enough
        else:
            unmark_running()  # whoever is killed for being slow to end was not killed without a word
        before(number, frame)

    signal.signal(signal.SIGTERM, look)
    try:
        yield
    except BaseException:
        if full:
            raise full_disk(step) from None
        raise
    finally:
        if signal.getsignal(signal.SIGTERM) is look:
            signal.signal(signal.SIGTERM, before)


def bytes_in(folder: Path) -> int:
    """What the files below it take of the disk, as `du` and the kubelet count; links are not followed."""
    total = 0
    with suppress(OSError):
        for entry in os.scandir(folder):
            with suppress(OSError):
                info = entry.stat(follow_symlinks=False)
                total += 512 * info.st_blocks
                if stat.S_ISDIR(info.st_mode):
                    total += bytes_in(Path(entry.path))
    return total
