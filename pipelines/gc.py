"""`conveyor gc`: remove from the store what nothing needs any more."""

import json
import re
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click

from components.common.keep import REFRESH_AGE_S
from components.common.progress import make_reporter
from components.common.store.base import ObjectInfo, Store
from pipelines.collector import collect
from pipelines.commands.options import Session, store_option
from pipelines.config import read_config
from pipelines.summary import size
from pipelines.survey import DAY_S, Policy, survey

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
@click.option("-f", "--file", type=click.Path(path_type=Path), help="A config file (YAML), for its store.")
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
    file: Path | None,
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
    opened = read_config(session.graph, file, (), {"store": store}).store.open()
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
