"""What the store tests let other processes do; here, so that a spawned process can import it."""

import io
import multiprocessing
import time
from multiprocessing.synchronize import Barrier, Event
from typing import Any

from components.common.store import open_store

SPAWN = multiprocessing.get_context("spawn")
FOREVER_S = 600.0


def race_create(url: str, key: str, name: bytes, barrier: Barrier, results: Any) -> None:
    """Create `key` together with others and tell who won."""
    store = open_store(url)
    store.stat("warm-up")
    barrier.wait(60)
    results.put((name, store.create(key, name)))


def race_count(url: str, key: str, times: int, barrier: Barrier) -> None:
    """Add one to a number `times` times by compare-and-swap."""
    store = open_store(url)
    barrier.wait(60)
    for _ in range(times):
        while True:
            data, tag = store.read(key)
            if store.swap(key, str(int(data) + 1).encode(), tag=tag):
                break


class StuckStream(io.BytesIO):
    """Gives `good` bytes, tells so, and never goes on."""

    def __init__(self, total: int, good: int, reached: Event) -> None:
        super().__init__(bytes(total))
        self._good = good
        self._reached = reached

    def read(self, size: int | None = -1, /) -> bytes:
        if self.tell() >= self._good:
            self._reached.set()
            time.sleep(FOREVER_S)
        return super().read(self._good if size is None or size < 0 else min(size, self._good - self.tell()))


def write_and_get_stuck(url: str, key: str, total: int, good: int, reached: Event) -> None:
    """Begin to write an object of `total` bytes and hang after `good` of them."""
    open_store(url).put(key, StuckStream(total, good, reached))


def hold_lock(folder: str, reached: Event) -> None:
    """Take a file store's lock, as a compare-and-swap does, and hang."""
    import fcntl
    from pathlib import Path

    from components.common.store.file import FileStore

    with FileStore(Path(folder))._lock(fcntl.LOCK_EX):
        reached.set()
        time.sleep(FOREVER_S)


def put_as_nobody(folder: str, results: Any) -> None:
    """Write to a folder of somebody else's; the error's text, or "written"."""
    import os

    from components.common.errors import StoreError

    store = open_store(folder)
    os.setgid(65534)
    os.setuid(65534)
    try:
        store.put("a", b"1")
        results.put("written")
    except StoreError as error:
        results.put(str(error))
