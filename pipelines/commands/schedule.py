"""`conveyor schedule`: recurring runs on a Kubeflow server."""

import json
from pathlib import Path
from typing import Any

import click

from components.common.errors import InputError
from components.common.progress import make_reporter
from pipelines.commands.kubeflow_options import connect, doubts, pipeline_options, server_options, wanted
from pipelines.commands.options import Session

MAX_NAME = 128


@click.group()
def schedule() -> None:
    """Run the pipeline again and again on a Kubeflow server: create, list, pause, resume, remove."""


@schedule.command()
@click.argument("name")
@click.option(
    "--cron",
    metavar='"S M H DAY MONTH WEEKDAY"',
    help='When, in the server\'s time zone (UTC): "0 0 3 * * *" is 3:00.',
)
@click.option("--every", metavar="INTERVAL", help="Or how often: 30m, 6h, 1d.")
@pipeline_options
@server_options
@click.option("--quiet", is_flag=True, help="Only warnings, errors and the result.")
@click.pass_obj
def create(
    session: Session,
    /,
    name: str,
    cron: str | None,
    every: str | None,
    file: Path | None,
    settings: tuple[str, ...],
    parameters: tuple[str, ...],
    image: str | None,
    pipeline: str,
    experiment: str,
    service_account: str | None,
    host: str | None,
    namespace: str | None,
    token_file: Path | None,
    ca_file: Path | None,
    quiet: bool,
    **shortcuts: Any,
) -> None:
    """Create the schedule NAME, or replace ours of that name (which stays paused, if it was).

    One run at a time; what was missed while it was paused or the server was down is not made up for.
    """
    from pipelines.kubeflow.when import parse_when

    if not name.strip() or len(name) > MAX_NAME:
        raise InputError("this is not a usable schedule name", found=repr(name))
    when = parse_when(cron, every)
    what = wanted(session, file, settings, parameters, image, shortcuts)
    if what.values.get("run"):
        raise InputError(
            "each run of a schedule needs a name of its own",
            where=f"--param run={what.values['run']}",
            todo="leave it out: runs are named by Kubeflow",
        )
    server = connect(host, namespace, token_file, ca_file)
    from pipelines.kubeflow import schedules
    from pipelines.kubeflow.upload import experiment_id, upload

    reporter = make_reporter(quiet=quiet)
    for doubt in doubts(what.kubernetes):
        reporter.warning(doubt)
    version = upload(server, session.graph, what.kubernetes, pipeline)
    replaced = schedules.create(
        server,
        name,
        when,
        version,
        what.values,
        experiment_id=experiment_id(server, experiment),
        service_account=service_account,
    )
    told = when.cron if when.cron is not None else f"every {when.interval_s} s"
    click.echo(f"{'replaced' if replaced else 'created'} {name}: {told}")


@schedule.command("list")
@server_options
@click.option("--json", "as_json", is_flag=True, help="A JSON list.")
def list_(
    host: str | None, namespace: str | None, token_file: Path | None, ca_file: Path | None, as_json: bool
) -> None:
    """List the recurring runs that are ours: made by this command, or of Conveyor's pipeline."""
    server = connect(host, namespace, token_file, ca_file)
    from pipelines.kubeflow.schedules import schedules

    found = schedules(server)
    if as_json:
        click.echo(
            json.dumps(
                [
                    {
                        "name": each.name,
                        "when": each.when,
                        "state": "on" if each.enabled else "paused",
                        "id": each.recurring_id,
                        "parameters": dict(each.parameters),
                    }
                    for each in found
                ]
            )
        )
        return
    if not found:
        click.echo(f"no schedules on {server.host}", err=True)
        return
    width = max(len("name"), *(len(each.name) for each in found))
    click.echo(f"{'name':<{width}}  {'state':<6}  when")
    for each in found:
        click.echo(f"{each.name:<{width}}  {'on' if each.enabled else 'paused':<6}  {each.when}")


@schedule.command()
@click.argument("name")
@server_options
def pause(
    name: str, host: str | None, namespace: str | None, token_file: Path | None, ca_file: Path | None
) -> None:
    """Start no more runs of NAME until it is resumed."""
    _switch(name, connect(host, namespace, token_file, ca_file), enabled=False)
    click.echo(f"paused {name}")


@schedule.command()
@click.argument("name")
@server_options
def resume(
    name: str, host: str | None, namespace: str | None, token_file: Path | None, ca_file: Path | None
) -> None:
    """Go on with NAME; what it missed is not made up for."""
    _switch(name, connect(host, namespace, token_file, ca_file), enabled=True)
    click.echo(f"resumed {name}")


@schedule.command()
@click.argument("name")
@server_options
def remove(
    name: str, host: str | None, namespace: str | None, token_file: Path | None, ca_file: Path | None
) -> None:
    """Remove NAME. Its runs, and what they left, stay (a server before 2.16 ends a run that is under way)."""
    server = connect(host, namespace, token_file, ca_file)
    from pipelines.kubeflow import schedules

    schedules.remove(server, name)
    click.echo(f"removed {name}")


def _switch(name: str, server: Any, *, enabled: bool) -> None:
    from pipelines.kubeflow import schedules

    schedules.switch(server, name, enabled=enabled)
