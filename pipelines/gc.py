"""`conveyor gc`: remove from the store what no run, record, data set, checkpoint or model reaches any more."""

import json
import re
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import click

from components.common.blobs import PREFIX as BLOBS
from components.common.blobs import Blobs
from components.common.canonical import DIGEST_PREFIX
from components.common.errors import StoreError
from components.common.keep import REFRESH_AGE_S
from components.common.progress import Reporter, make_reporter
from components.common.store.base import ObjectInfo, Store
from pipelines import reach
from pipelines.collector import Collector, Removed
from pipelines.commands.options import Session, store_option
from pipelines.config import read_config
from pipelines.reach import CHECKPOINT, Root

DAY_S = 86400.0
MEASUREMENTS = re.compile(r"measurements/(?P<step>[A-Za-z0-9_-]+)/(?P<key>[0-9a-f]{64})/[0-9a-f]{64}\.json")
NAMED_BY_TREE = re.compile(r"-(?P<start>[0-9a-f]{20})\.[a-z]+$")
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
    forgotten = (
        expired_runs({name: _age(infos, now) for name, infos in runs.items()}, policy) if forget else set()
    )
    for name, infos in runs.items():
        if name in forgotten:
            found.groups["runs"] += infos
    kept_runs = [info for name, infos in runs.items() if name not in forgotten for info in infos]
    found.roots["run"] = len(runs) - len(forgotten)

    records = reach.steps_and_keys(store.list("records/"))
    pointed = reach.pointed_at(store, kept_runs)
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
        *_checkpoints(store, policy, now, {key for _, key in records}, found),
    ]
    found.roots.update(root.kind for root in roots)
    reached = reach.walk(Blobs(store), roots)
    if reached.broken:
        digest, (name, error) = next(iter(reached.broken.items()))
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
    for key, infos in by_key.items():
        age = _age(infos, now)
        given_up = policy.older_than_s is not None and age > policy.older_than_s
        if age > policy.grace_s and (key in finished or given_up):
            found.groups["checkpoints"] += infos
            continue
        yield from (root for info in infos if (root := reach.checkpoint_root(store, info)) is not None)


def collect(store: Store, policy: Policy, reporter: Reporter, *, now: float | None = None) -> Removed:
    """Remove what may go; safe beside running steps (components/common/keep.py)."""
    now = time.time() if now is None else now
    removed = Removed()
    collector = Collector(store, now - policy.grace_s, reporter)
    with collector.working():
        first = survey(store, policy, now)
        for kind in ("runs", "records", "measurements", "checkpoints", "caches", "probes"):
            collector.remove(first.groups[kind], kind, removed)
        # Anew, since a step may have taken up an old record meanwhile, and with it all that it reaches.
        collector.remove(survey(store, policy, now, forget=False).groups["blobs"], "blobs", removed)
    for leftover in first.leftovers:
        store.remove_leftover(leftover)
        removed.objects.append(leftover)
    return removed


def _by_run(infos: Iterable[ObjectInfo]) -> dict[str, list[ObjectInfo]]:
    found: dict[str, list[ObjectInfo]] = defaultdict(list)
    for info in infos:
        if info.key.count("/") >= 2:
            found[info.key.split("/")[1]].append(info)
    return found


def _age(infos: Iterable[ObjectInfo], now: float) -> float:
    return now - max(info.modified for info in infos)


# -- the command -------------------------------------------------------------------------------------------------------

UNITS_S = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": DAY_S, "w": 7 * DAY_S}


class Duration(click.ParamType[float]):
    """`90m`, `24h`, `30d` → seconds."""

    name = "DURATION"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw])", str(value))
        if match is None:
            self.fail(f"{value!r} is not a duration such as 90m, 24h or 30d.", param, ctx)
        return float(match[1]) * UNITS_S[match[2]]


@click.command(name="gc")
@store_option
@click.option("-f", "--file", type=click.Path(), help="A config file (YAML), for its store.")
@click.option("--delete", is_flag=True, help="Do it. Without this, nothing is changed.")
@click.option(
    "--grace",
    type=Duration(),
    default="24h",
    show_default=True,
    help="Leave what is younger: longer than the longest step.",
)
@click.option(
    "--keep-runs", type=click.IntRange(min=0), metavar="N", help="Forget all but the N latest runs."
)
@click.option(
    "--older-than",
    type=Duration(),
    help="Forget runs and unfinished trainings without a sign of life for this long.",
)
@click.option("--list", "listed", is_flag=True, help="Name every object.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
@click.pass_obj
def command(
    session: Session,
    /,
    store: str | None,
    file: str | None,
    delete: bool,
    grace: float,
    keep_runs: int | None,
    older_than: float | None,
    listed: bool,
    as_json: bool,
) -> None:
    """Remove from the store what no run, record, data set, checkpoint or registered model reaches.

    A dry run unless --delete is given. Safe beside a running pipeline. Registered models are never removed; runs are
    forgotten only when --keep-runs or --older-than says so (with both, only runs to which both apply).
    """
    from pathlib import Path

    opened = read_config(session.graph, Path(file) if file else None, (), {"store": store}).store.open()
    policy = Policy(grace, keep_runs, older_than)
    reporter = make_reporter()
    if grace < 2 * REFRESH_AGE_S:
        reporter.warning(
            "a grace period under 12 h is safe only while nothing runs on this store", grace_s=grace
        )
    if delete:
        done = collect(opened, policy, reporter)
        groups = _by_kind(done.objects)
        kept = {"rescued": len(done.rescued)}
    else:
        planned = survey(opened, policy, time.time())
        groups = {**planned.groups, "leftovers": planned.leftovers}
        kept = {"blobs": planned.num_kept, "size_bytes": planned.kept_bytes, **planned.roots}
    groups = {kind: infos for kind, infos in groups.items() if infos}
    show: Callable[..., str] = _json if as_json else _text
    click.echo(show(opened, groups, kept, delete=delete, listed=listed))


def _by_kind(infos: Iterable[ObjectInfo]) -> dict[str, list[ObjectInfo]]:
    groups: dict[str, list[ObjectInfo]] = defaultdict(list)
    for info in infos:
        kind = info.key.partition("/")[0]
        groups["leftovers" if kind.startswith(".") or "?" in info.key else kind].append(info)
    return groups


def _json(
    store: Store, groups: dict[str, list[ObjectInfo]], kept: dict[str, int], *, delete: bool, listed: bool
) -> str:
    document: dict[str, Any] = {
        "store": store.url,
        "deleted": delete,
        "removed": {
            kind: {"objects": len(infos), "size_bytes": sum(i.size_bytes for i in infos)}
            for kind, infos in groups.items()
        },
        "kept": kept,
    }
    if listed:
        document["objects"] = [info.key for infos in groups.values() for info in infos]
    return json.dumps(document)


def _text(
    store: Store, groups: dict[str, list[ObjectInfo]], kept: dict[str, int], *, delete: bool, listed: bool
) -> str:
    lines = []
    if groups:
        lines.append(f"{'removed from' if delete else 'would be removed from'} {store.url}")
        lines += [
            f"  {kind:<12} {len(infos):>8,} objects {size(sum(i.size_bytes for i in infos)):>10}"
            for kind, infos in groups.items()
        ]
        if listed:
            lines += [f"    {info.key}" for infos in groups.values() for info in infos]
    else:
        lines.append(f"nothing to remove from {store.url}")
    if delete and kept["rescued"]:
        lines.append(f"  {kept['rescued']:,} objects stay, since a running step took them up meanwhile")
    if not delete:
        reasons = ", ".join(
            f"{kept[k]:,} {k}{'s' * (kept[k] != 1)}" for k in kept if k not in {"blobs", "size_bytes"}
        )
        lines.append(
            f"stays: {kept['blobs']:,} blobs of {size(kept['size_bytes'])}, needed by {reasons or 'nothing'}"
        )
        if groups:
            lines.append("this was a dry run: --delete does it")
    return "\n".join(lines)


def size(num_bytes: float) -> str:
    """Bytes for a person: 12.3 MB."""
    for unit in ("B", "kB", "MB", "GB"):
        if num_bytes < 1000:
            return f"{num_bytes:.3g} {unit}" if unit != "B" else f"{num_bytes:.0f} B"
        num_bytes /= 1000
    return f"{num_bytes:.3g} TB"
