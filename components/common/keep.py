"""How what a step relies on outlives a garbage collection beside it.

`conveyor gc` removes objects that nothing reaches and that are older than a grace period. New objects are young, so
only one thing can go wrong: a step finds that an old, unreached object exists already (a blob of the same bytes, a
record of the same key), relies on it, and the collection removes it before the step's record says that it is needed.

Two rules prevent that, on any store with strongly consistent reads, without comparing clocks:

1. Who relies on an old object first makes it young (`touch`), and only then reads the collector's notice.
2. The collector first writes the names that it is about to remove into its notice, and only then looks at their age.

Of two parties that each write before they read, at least one sees the other's write (Dekker's argument). Either the
collector sees a young object and leaves it, or the step sees its object in the notice. Then it waits until the notice
is gone or names others, and looks whether the object is still there; if not, it makes the object anew. A collector
begins no removal later than `REMOVE_WITHIN_S` after its notice, by its own clock, so that the notice of a killed one
need not be heeded for longer than `PATIENCE_S`, by the step's own clock.
"""

import json
import time

from components.common.store.base import NotFoundError, ObjectInfo, Store

NOTICE = "gc/notice.json"
REFRESH_AGE_S = 6 * 3600
"""An object older than this is made young again when somebody relies on it."""
REMOVE_WITHIN_S = 20.0
PATIENCE_S = 300.0
POLL_S = 0.2


def keep(store: Store, key: str, info: ObjectInfo | None = None) -> bool:
    """Rely on an existing object from now on; False where there is none (any more), so that it must be made.

    `info` is what `stat` just said, where the caller knows it. The object then is no older than `REFRESH_AGE_S`, so a
    step has the grace period less that long to publish its record.
    """
    info = info or store.stat(key)
    if info is None:
        return False
    if time.time() - info.modified < REFRESH_AGE_S:
        return True
    if not store.touch(key):
        return False
    _wait_for_collector(store, key)
    return store.stat(key) is not None


def _wait_for_collector(store: Store, key: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while key in read_notice(store) and time.monotonic() < deadline:
        time.sleep(POLL_S)


def read_notice(store: Store) -> frozenset[str]:
    """Keys that a collector is removing at this moment."""
    try:
        data, _ = store.read(NOTICE)
    except NotFoundError:
        return frozenset()
    return frozenset(json.loads(data)["keys"])
