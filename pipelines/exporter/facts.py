"""What the exporter knows of a store. Its size does not grow with the number of runs."""

import heapq
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby
from typing import Any

from components.common.errors import InputError, StoreError
from components.common.store import Store
from components.common.store.base import NotFoundError, ObjectInfo
from components.promote.documents import Champion, Version
from components.promote.registry import Registry, list_registries
from pipelines.attempts import ROOT as RETRAINING
from pipelines.attempts import Attempt, Retraining, read_retraining

NEWEST_RUNS = 500
"""So many results are read; older runs are only counted."""
NEWEST_VERSIONS = 16
"""Among so many versions of a model those that await approval are looked for."""
UNFINISHED = "unfinished"


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What one result says, without what is long."""

    run: str
    state: str
    ended: float
    """Seconds since the epoch."""
    seconds: float
    promoted: bool
    awaiting_approval: bool
    steps: dict[str, tuple[str, float]]
    """Step → state, seconds."""
    ingest: dict[str, Any] | None
    accuracy: float | None
    chosen: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """One registered model."""

    registry: str
    champion: Version | None
    promoted: float | None
    """When the pointer moved last, seconds since the epoch."""
    num_versions: int
    num_awaiting: int
    attempt: Attempt | None
    num_checks: int
    checked: float | None
    retraining_seen: float | None
    """When a retraining last showed itself, seconds since the epoch: it began, went on, ended, or had nothing to do."""


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything, as of one look at the store."""

    num_runs: int = 0
    by_state: Counter[str] = field(default_factory=Counter)
    """Of the newest runs."""
    last: RunFacts | None = None
    last_succeeded: float | None = None
    with_ingest: RunFacts | None = None
    with_accuracy: RunFacts | None = None
    with_chosen: RunFacts | None = None
    models: tuple[ModelFacts, ...] = ()


class Looker:
    """Looks at a store again and again, and reads only results that are new."""

    def __init__(self, store: Store, *, newest_runs: int = NEWEST_RUNS) -> None:
        self._store, self._newest = store, newest_runs
        self._known: dict[str, tuple[float, RunFacts | None]] = {}
        """Run → when its result was written, and what it says; no more than `newest_runs`."""

    def look(self) -> Facts:
        """Raises `StoreError` where the store cannot be read."""
        num_runs, newest = self._newest_runs()
        known: dict[str, tuple[float, RunFacts | None]] = {}
        for run, written in newest:
            if written is None:
                continue
            before = self._known.get(run)
            known[run] = before if before and before[0] == written else (written, self._read(run))
        self._known = known
        ended = sorted((facts for _, facts in known.values() if facts), key=lambda facts: facts.ended)
        by_state = Counter(facts.state for facts in ended)
        by_state[UNFINISHED] = len(newest) - len(ended)
        return Facts(
            num_runs=num_runs,
            by_state=by_state,
            last=ended[-1] if ended else None,
            last_succeeded=max((f.ended for f in ended if f.state == "succeeded"), default=None),
            with_ingest=_newest(f for f in ended if f.ingest is not None),
            with_accuracy=_newest(f for f in ended if f.accuracy is not None),
            with_chosen=_newest(f for f in ended if f.chosen is not None),
            models=tuple(self._model(Registry(self._store, name)) for name in self._names()),
        )

    def _newest_runs(self) -> tuple[int, list[tuple[str, float | None]]]:
        """How many runs there are; name and time of the result (None: unfinished) of those with the latest signs of life.

        The listing comes page by page and in order, so that one run's objects are all that is held at once.
        """
        num, heap = 0, list[tuple[float, str, float | None]]()
        for run, infos in groupby(self._listing(), key=lambda info: info.key.split("/")[1]):
            num += 1
            latest, written = 0.0, None
            for info in infos:
                latest = max(latest, info.modified)
                if info.key.endswith("/result.json"):
                    written = info.modified
            heapq.heappush(heap, (latest, run, written))
            if len(heap) > self._newest:
                heapq.heappop(heap)
        return num, [(run, written) for _, run, written in heap]

    def _listing(self) -> Iterable[ObjectInfo]:
        return (info for info in self._store.list("runs/") if info.key.count("/") >= 2)

    def _read(self, run: str) -> RunFacts | None:
        try:
            data, _ = self._store.read(f"runs/{run}/result.json")
            return _run_facts(run, json.loads(data))
        except (NotFoundError, ValueError, KeyError, TypeError, AttributeError):
            return None  # Collected meanwhile, or damaged: `conveyor verify` is who looks for that.

    def _names(self) -> list[str]:
        """Of registered models, and of those whose first attempt has not come to that."""
        attempted = {name for name, _ in self._attempts()}
        return sorted({*list_registries(self._store), *attempted})

    def _attempts(self) -> Iterable[tuple[str, float]]:
        """Name of each retrained model, and when its document was written."""
        for info in self._store.list(RETRAINING):
            yield info.key.removeprefix(RETRAINING).removesuffix(".json"), info.modified

    def _model(self, registry: Registry) -> ModelFacts:
        pointer = registry.pointer().document
        numbers = registry.numbers()
        document, _ = read_retraining(self._store, registry.name)
        return ModelFacts(
            registry=registry.name,
            champion=_champion(registry, pointer),
            promoted=_seconds(pointer.moves[-1].at) if pointer.moves else None,
            num_versions=len(numbers),
            num_awaiting=sum(_awaits(registry, n, pointer) for n in numbers[-NEWEST_VERSIONS:]),
            attempt=document.attempt,
            num_checks=document.checks,
            checked=_seconds(document.checked),
            retraining_seen=self._retraining_seen(registry.name, document),
        )

    def _retraining_seen(self, name: str, document: Retraining) -> float | None:
        attempt = document.attempt
        if attempt is None:
            return None
        times = [_seconds(text) for text in (document.checked, attempt.ended, attempt.began)]
        if attempt.state == "running":
            # One that goes on after a failure began long ago: only the document's own time tells.
            times.append(dict(self._attempts()).get(name))
        return max(time for time in times if time is not None)


def _newest(runs: Iterable[RunFacts]) -> RunFacts | None:
    found = None
    for found in runs:  # noqa: B007 - the last one
        pass
    return found


def _run_facts(run: str, document: dict[str, Any]) -> RunFacts:
    result = document["result"]
    compressed = result.get("compressed")
    return RunFacts(
        run=run,
        state=str(result["state"]),
        ended=_seconds(document["ended"]) or 0.0,
        seconds=float(result["seconds"]),
        promoted=bool(result["promoted"]),
        awaiting_approval=bool(result.get("awaiting_approval", False)),
        steps={
            str(name): (str(step["state"]), float(step["seconds"])) for name, step in result["steps"].items()
        },
        ingest=result.get("ingest"),
        accuracy=(result.get("metrics") or {}).get("accuracy"),
        chosen=compressed["chosen"] if compressed else None,
    )


def _champion(registry: Registry, pointer: Champion) -> Version | None:
    try:
        return registry.version(pointer.champion) if pointer.champion is not None else None
    except InputError:
        return None  # The pointer leads nowhere: `conveyor models` says so, the other figures stay.


def _awaits(registry: Registry, number: int, pointer: Champion) -> bool:
    if any(move.after == number for move in pointer.moves):
        return False
    try:
        decision = registry.decision(number)
    except StoreError:
        return False
    return decision is not None and decision.awaiting_approval


def _seconds(text: str | None) -> float | None:
    return datetime.fromisoformat(text).timestamp() if text else None
