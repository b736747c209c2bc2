"""A file store whose objects can be made old, with a small pipeline's worth of runs in it."""

import os
import time
from pathlib import Path

from components.common.progress import make_reporter
from components.common.step import Outcome, execute
from components.common.store.file import OWN, FileStore
from support.dummy import run as dummy
from support.dummy.config import DummyConfig

QUIET = make_reporter(quiet=True)
WEEK_S = 7 * 86400.0


def run_dummy(store: FileStore, greeting: str, run_id: str | None = None) -> Outcome:
    """Execute the dummy step; its result is one blob with the greeting."""
    return execute(dummy, DummyConfig(greeting=greeting), dummy.Inputs(), store, QUIET, run_id=run_id)


def age(store: FileStore, *, by_s: float = WEEK_S, prefix: str = "", keys: list[str] | None = None) -> None:
    """Make everything below `prefix` (or just `keys`), temporary files included, `by_s` old."""
    old = time.time() - by_s
    for key in keys if keys is not None else [info.key for info in store.list(prefix)]:
        os.utime(store.root / key, (old, old))
    if keys is None and not prefix:
        for path in (store.root / OWN).glob("*.tmp"):
            os.utime(path, (old, old))


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
