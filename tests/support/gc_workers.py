"""A collection in a process of its own, which the tests kill."""

import multiprocessing
import threading
import time
from multiprocessing.synchronize import Event

from components.common.store.file import FileStore
from pipelines.collector import collect
from pipelines.survey import Policy
from support.aged_store import QUIET

SPAWN = multiprocessing.get_context("spawn")


class Hanging(FileStore):
    """Removes a few objects, tells so, and never goes on."""

    def arm(self, stop_after: int, reached: Event) -> None:
        self._left, self._reached, self._mutex = stop_after, reached, threading.Lock()

    def delete(self, key: str) -> None:
        with self._mutex:
            if self._left == 0:
                self._reached.set()
                time.sleep(600)
            self._left -= 1
        super().delete(key)


def collect_and_hang(url: str, stop_after: int, reached: Event) -> None:
    from components.common.store import open_store

    plain = open_store(url)
    assert isinstance(plain, FileStore)
    store = Hanging(plain.root)
    store.arm(stop_after, reached)
    collect(store, Policy(keep_runs=0), QUIET)
    reached.set()
    time.sleep(600)
