"""The removing half of `conveyor gc`: announce, look again, remove (components/common/keep.py says why)."""

import secrets
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

from components.common.canonical import canonical_json
from components.common.errors import InputError, StoreError
from components.common.keep import NOTICE, PATIENCE_S, REMOVE_WITHIN_S
from components.common.progress import Reporter
from components.common.store.base import NotFoundError, ObjectInfo, Store
from pipelines.survey import Policy, survey

BATCH = 400
THREADS = 16
STALE_S = 2 * PATIENCE_S
"""A notice untouched for this long was left by a collector that was killed."""


@dataclass
class Removed:
    """What a collection did."""

    objects: list[ObjectInfo] = field(default_factory=list)
    rescued: list[ObjectInfo] = field(default_factory=list)
    """Made young by a running step between the survey and the removal."""


class Collector:
    """Removes objects that are still older than `cutoff` when their turn comes."""

    def __init__(self, store: Store, cutoff: float, reporter: Reporter) -> None:
        self._store = store
        self._cutoff = cutoff
        self._reporter = reporter
        self._id = secrets.token_hex(8)
        self._tag: str | None = None

    def remove(self, infos: Sequence[ObjectInfo], what: str, removed: Removed) -> None:
        """Remove `infos`, in batches that are each announced first."""
        if not infos:
            return
        waiting = list(infos)
        with (
            self._reporter.task(f"removing {what}", total=len(waiting), unit="objects") as task,
            ThreadPoolExecutor(THREADS) as pool,
        ):
            while waiting:
                batch, waiting = waiting[:BATCH], waiting[BATCH:]
                deadline = time.monotonic() + REMOVE_WITHIN_S
                self._announce(batch)
                outcomes = pool.map(lambda info, until=deadline: self._remove_one(info, until), batch)
                for info, outcome in zip(batch, outcomes, strict=True):
                    if outcome is None:
                        waiting.append(info)  # The notice grew too old: once more, under a new one.
                        continue
                    (removed.objects if outcome else removed.rescued).append(info)
                    task.advance()

    def _remove_one(self, info: ObjectInfo, deadline: float) -> bool | None:
        """True: gone. False: somebody relies on it now. None: too late under this notice."""
        now = self._store.stat(info.key)
        if now is None:
            return True
        if now.modified >= self._cutoff:
            return False
        if time.monotonic() >= deadline:
            return None
        self._store.delete(info.key)
        return True

    def _announce(self, batch: Sequence[ObjectInfo]) -> None:
        data = canonical_json({"version": 1, "collector": self._id, "keys": [info.key for info in batch]})
        if not self._store.swap(NOTICE, data, tag=self._tag):
            raise StoreError(
                "another collection took over",
                where=f"{self._store.url}/{NOTICE}",
                todo="let it end, then run conveyor gc again",
            )
        self._tag = self._store.read(NOTICE)[1]

    @contextmanager
    def working(self) -> Iterator[None]:
        """Only one collection at a time. Raises `InputError` where another one is at work."""
        info = self._store.stat(NOTICE)
        if info is not None:
            age_s = time.time() - info.modified
            if age_s < STALE_S:
                raise InputError(
                    "another 'conveyor gc' is at work on this store",
                    where=f"{self._store.url}/{NOTICE}",
                    found=f"its notice is {age_s:.0f} s old",
                    todo=f"wait for it; if it was killed, run again in {(STALE_S - age_s) / 60:.0f} minutes",
                )
            try:
                self._tag = self._store.read(NOTICE)[1]
            except NotFoundError:
                self._tag = None
        self._announce([])
        try:
            yield
        finally:
            self._store.delete(NOTICE)


def collect(store: Store, policy: Policy, reporter: Reporter, *, now: float | None = None) -> Removed:
    """Remove what may go; safe beside running steps (components/common/keep.py)."""
    now = time.time() if now is None else now
    removed = Removed()
    collector = Collector(store, now - policy.grace_s, reporter)
    with collector.working():
        first = survey(store, policy, now)
        for kind in ("runs", "records", "measurements", "checkpoints", "tensorboard", "caches", "probes"):
            collector.remove(first.groups[kind], kind, removed)
        # Anew, since a step may have taken up an old record meanwhile, and with it all that it reaches.
        collector.remove(survey(store, policy, now, forget=False).groups["blobs"], "blobs", removed)
    for leftover in first.leftovers:
        store.remove_leftover(leftover)
        removed.objects.append(leftover)
    return removed
