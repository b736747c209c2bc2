"""The looking half of `conveyor gc`: what no run, record, data set, checkpoint or model reaches any more."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from components.common.blobs import PREFIX as BLOBS
from components.common.blobs import Blobs
from components.common.canonical import DIGEST_PREFIX
from components.common.errors import StoreError
from components.common.store.base import ObjectInfo, Store
from pipelines import reach
from pipelines.reach import CHECKPOINT, Root

DAY_S = 86400.0
MEASUREMENTS = re.compile(r"measurements/(?P<step>[A-Za-z0-9_-]+)/(?P<key>[0-9a-f]{64})/[0-9a-f]{64}\.json")
NAMED_BY_TREE = re.compile(r"-(?P<start>[0-9a-f]{20})\.[a-z]+$")
EVENTS = re.compile(r"tensorboard/(?P<start>[0-9a-f]{16})/[^/]+")
GENERATIONS = re.compile(r"generations/(?P<key>[0-9a-f]{64})\.json")
UNUSED_PROBE = re.compile(r"probes/[0-9a-f]{16}")


@dataclass(frozen=True, slots=True)
class Policy:
    """What may go."""

    grace_s: float = DAY_S
    """Nothing younger than this is removed. Longer than the longest step."""
    keep_runs: int | None = None
    """Forget runs beyond this many of the latest."""
    older_than_s: float | None = None
    """Forget runs and unfinished trainings whose last sign of life is older. With `keep_runs`, a run must be both."""


@dataclass
class Survey:
    """What is there that may go, in the order in which it has to go."""

    groups: dict[str, list[ObjectInfo]] = field(default_factory=lambda: defaultdict(list))
    """Kind → objects. No group is needed by a later one, so a killed collection leaves nothing that points to nothing."""
    leftovers: list[ObjectInfo] = field(default_factory=list)
    roots: Counter[str] = field(default_factory=Counter)
    """Kind of root → how many stay."""
    num_kept: int = 0
    kept_bytes: int = 0


def survey(store: Store, policy: Policy, now: float, *, forget: bool = True) -> Survey:
    """Look at the whole store. Without `forget`, every run and record that is there counts as needed.

    Raises `StoreError` where something that is needed cannot be read: what it needs is not known then.
    """
    found = Survey()
    cutoff = now - policy.grace_s
    runs = _by_run(store.list("runs/"))
    # Before the runs are judged: the next retraining compares with its last attempt, and goes on with an unfinished one.
    attempts = list(reach.attempt_roots(store))
    ages = {name: _age(infos, now) for name, infos in runs.items()}
    forgotten = expired_runs(ages, policy) - {attempt.run for _, attempt in attempts} if forget else set()
    for name, infos in runs.items():
        if name in forgotten:
            found.groups["runs"] += infos
    kept_runs = [info for name, infos in runs.items() if name not in forgotten for info in infos]
    found.roots["run"] = len(runs) - len(forgotten)

    records = reach.steps_and_keys(store.list("records/"))
    pointed = reach.pointed_at(store, kept_runs)
    pointed |= {item for _, attempt in attempts for item in attempt.records.items()}
    stays = {
        name for name, info in records.items() if name in pointed or info.modified >= cutoff or not forget
    }
    found.groups["records"] = [info for name, info in records.items() if name not in stays]
    found.groups["measurements"] = [
        info
        for info in store.list("measurements/")
        if (match := MEASUREMENTS.fullmatch(info.key))
        and (match["step"], match["key"]) not in stays
        and info.modified < cutoff
    ]
    roots = [
        *(
            reach.record_root(name, record)
            for name, record in reach.read_records(store, [records[n] for n in stays])
        ),
        *reach.data_set_roots(store),
        *reach.model_roots(store),
        *(root for root, _ in attempts),
        *_checkpoints(store, policy, now, {key for _, key in records}, found),
    ]
    found.roots.update(root.kind for root in roots)
    reached = reach.walk(Blobs(store), roots)
    if reached.broken:
        digest, error = next(iter(reached.broken.items()))
        name = min(reached.needed_by[digest])
        raise StoreError(
            "the store is damaged, and gc removes nothing from a damaged store",
            where=f"{store.url}/{name} needs {digest}",
            found=error.what,
            todo="'conveyor verify' lists all damage, 'conveyor verify --repair' puts it aside",
        )
    starts = {digest.removeprefix(DIGEST_PREFIX)[:20] for digest in (*reached.needed_by, *reached.loosely)}
    found.groups["caches"] = [
        info
        for info in store.list("caches/")
        if info.modified < cutoff
        and (match := NAMED_BY_TREE.search(info.key))
        and match["start"] not in starts
    ]
    trained = {key[:16] for _, key in stays}
    found.groups["tensorboard"] = [
        info
        for info in store.list("tensorboard/")
        if info.modified < cutoff and (match := EVENTS.fullmatch(info.key)) and match["start"] not in trained
    ]
    found.groups["notices"] = [
        info
        for info in store.list("notices/")
        if info.modified < cutoff
        and info.key.split("/")[1].partition(".")[0] not in {key for _, key in stays}
    ]
    found.groups["probes"] = [
        info for info in store.list("probes/") if info.modified < cutoff and UNUSED_PROBE.fullmatch(info.key)
    ]
    for info in store.list(BLOBS):
        if DIGEST_PREFIX + info.key.rpartition("/")[2] in reached or info.modified >= cutoff:
            found.num_kept += 1
            found.kept_bytes += info.size_bytes
        else:
            found.groups["blobs"].append(info)
    found.leftovers = list(store.leftovers(cutoff))
    return found


def expired_runs(ages_s: dict[str, float], policy: Policy) -> set[str]:
    """Names of runs to forget; `ages_s` is the time since each one's last sign of life."""
    if policy.keep_runs is None and policy.older_than_s is None:
        return set()
    latest = sorted(ages_s, key=lambda name: (ages_s[name], name))
    beyond = set(latest[policy.keep_runs or 0 :])
    limit = max(policy.grace_s, policy.older_than_s or 0.0)
    return {name for name in beyond if ages_s[name] > limit}


def _checkpoints(
    store: Store, policy: Policy, now: float, finished: set[str], found: Survey
) -> Iterable[Root]:
    """Roots of unfinished trainings. Checkpoints of finished and of given-up ones may go."""
    by_key: dict[str, list[ObjectInfo]] = defaultdict(list)
    for info in store.list("checkpoints/"):
        if match := CHECKPOINT.fullmatch(info.key):
            by_key[match["key"]].append(info)

    def may_go(key: str, infos: list[ObjectInfo]) -> bool:
        age = _age(infos, now)
        given_up = policy.older_than_s is not None and age > policy.older_than_s
        return age > policy.grace_s and (key in finished or given_up)

    # What training across pods counts; it removes the count itself when it is done.
    found.groups["checkpoints"] += [
        info
        for info in store.list("generations/")
        if (match := GENERATIONS.fullmatch(info.key)) and may_go(match["key"], [info])
    ]
    for key, infos in by_key.items():
        if may_go(key, infos):
            found.groups["checkpoints"] += infos
            continue
        yield from (root for info in infos if (root := reach.checkpoint_root(store, info)) is not None)


def _by_run(infos: Iterable[ObjectInfo]) -> dict[str, list[ObjectInfo]]:
    found: dict[str, list[ObjectInfo]] = defaultdict(list)
    for info in infos:
        if info.key.count("/") >= 2:
            found[info.key.split("/")[1]].append(info)
    return found


def _age(infos: Iterable[ObjectInfo], now: float) -> float:
    return now - max(info.modified for info in infos)
