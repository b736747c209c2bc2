"""`conveyor runs` and `conveyor report`: what ran, and its report."""

import json
import webbrowser
from pathlib import Path
from typing import Any

import click

from components.common.errors import InputError
from components.common.runs import list_runs
from components.common.store import Store
from pipelines.commands.options import Session, store_option
from pipelines.config import read_config
from pipelines.runner import read_result
from pipelines.summary import percent

EMPTY: dict[str, Any] = {
    "state": "unfinished",
    "steps": {},
    "metrics": None,
    "promoted": False,
    "seconds": None,
}


@click.command()
@store_option
@click.option("-f", "--file", type=click.Path(path_type=Path), help="A config file (YAML), for its store.")
@click.option("--json", "as_json", is_flag=True, help="A JSON list, the newest last.")
@click.pass_obj
def runs(session: Session, store: str | None, file: Path | None, as_json: bool) -> None:
    """List what ran, the newest last. "unfinished" is running now, or was killed: run it again to go on."""
    opened = read_config(session.graph, file, (), {"store": store}).store.open()
    rows = [_row(opened, run_id) for run_id in list_runs(opened)]
    rows.sort(key=lambda row: (row["ended"] or "9", row["run"]))
    if as_json:
        click.echo(json.dumps(rows))
        return
    if not rows:
        click.echo(f"no runs in {opened.url}", err=True)
        return
    width = max(len(row["run"]) for row in rows)
    click.echo(f"{'run':<{width}}  {'state':<10}  {'ended':<19}  accuracy  promoted")
    for row in rows:
        accuracy = percent(row["accuracy"]) if row["accuracy"] is not None else "-"
        promoted = {True: "yes", False: "no", None: "-"}[row["promoted"]]
        ended = (row["ended"] or "-").replace("T", " ")[:19]
        click.echo(f"{row['run']:<{width}}  {row['state']:<10}  {ended:<19}  {accuracy:>8}  {promoted}")


def _row(store: Store, run_id: str) -> dict[str, Any]:
    document: dict[str, Any] = read_result(store, run_id) or {}
    result = document.get("result", EMPTY)
    metrics = result["metrics"] or {}
    return {
        "run": run_id,
        "state": result["state"],
        "ended": document.get("ended"),
        "seconds": result["seconds"],
        "accuracy": metrics.get("accuracy"),
        "promoted": result["promoted"] if result.get("model") else None,
    }


@click.command()
@click.argument("run_id", metavar="[RUN]", required=False)
@store_option
@click.option("-f", "--file", type=click.Path(path_type=Path), help="A config file (YAML), for its store.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write the report to this file.")
@click.option("--open", "show", is_flag=True, help="Open it in a browser.")
@click.pass_obj
def report(
    session: Session,
    run_id: str | None,
    store: str | None,
    file: Path | None,
    output: Path | None,
    show: bool,
) -> None:
    """Print the path of a run's report (of the latest run, if none is named), or write it to a file."""
    opened = read_config(session.graph, file, (), {"store": store}).store.open()
    run_id = run_id or _latest(opened)
    name = f"runs/{run_id}/report.html"
    if opened.stat(name) is None:
        # A run that was killed, or that Kubeflow or plain Jobs did, has results but nobody who wrote its report.
        from pipelines.report import write_run_report

        write_run_report(opened, run_id)
    if output is not None:
        data, _ = opened.read(name)
        output.write_bytes(data)
    path = output or opened.local_path(name)
    click.echo(str(path) if path is not None else f"{opened.url}/{name}")
    if show and path is None:
        raise InputError(
            "a browser cannot open a report in a remote store",
            where=opened.url,
            todo="add --output report.html",
        )
    if show and path is not None:
        webbrowser.open(path.resolve().as_uri())


def _latest(store: Store) -> str:
    known = [(_row(store, run_id)["ended"] or "", run_id) for run_id in list_runs(store)]
    if not known:
        raise InputError("nothing has run yet", where=store.url, todo="conveyor run --source DIR")
    return max(known)[1]
