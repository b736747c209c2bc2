"""A batch check that dies, as a decoder does that trips over an image; given to workers by name."""

import os
import signal

from components.ingest.check import Batch, Checked, check_batch

KILLER = b"this one kills its decoder"


def die_on_killer(batch: Batch) -> Checked:
    """The real check, but the process dies of a segmentation fault where a file ends in `KILLER`."""
    for entry in batch.entries:
        if batch.source.read(entry, entry.size_bytes).endswith(KILLER):
            os.kill(os.getpid(), signal.SIGSEGV)
    return check_batch(batch)


def square(number: int) -> int:
    """Dies on 7, hangs on 9, fails on 11."""
    if number == 7:
        os.kill(os.getpid(), signal.SIGKILL)
    if number == 9:
        signal.pause()
    if number == 11:
        raise ValueError("eleven")
    return number * number


def pid(_: int) -> int:
    return os.getpid()
