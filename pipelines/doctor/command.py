"""`conveyor doctor`: what this machine can and cannot do, each with its cure."""

import json
from pathlib import Path

import click

from pipelines.commands.options import Session
from pipelines.config import read_config
from pipelines.doctor.check import Check, Probe, ask_all
from pipelines.doctor.inside import probes_inside
from pipelines.doctor.probes import probes

MARKS = {"ok": "ok     ", "missing": "missing", "failed": "FAILED "}
COLOURS = {"ok": "green", "missing": "yellow", "failed": "red"}


@click.command("doctor")
@click.option(
    "--store", default=".conveyor/store", metavar="URL", show_default=True, help="The store to try out."
)
@click.option(
    "--inside",
    is_flag=True,
    help="In a cluster's pod: the store of -f, and the rights of a launcher; no more.",
)
@click.option("-f", "--file", type=click.Path(path_type=Path), help="A config file (YAML), for --inside.")
@click.option("--json", "as_json", is_flag=True, help="One JSON array on stdout.")
@click.pass_context
def command(context: click.Context, store: str, inside: bool, file: Path | None, as_json: bool) -> None:
    """Say what this machine can and cannot do, and how to mend it.

    `missing` is something that Conveyor does without; `FAILED` is something that it needs, or that is there and does
    not work. The exit status is 3 when anything failed.
    """
    checks = []
    for check in ask_all(_inside(context, file) if inside else probes(store)):
        checks.append(check)
        if not as_json:
            click.echo(_line(check))
    if as_json:
        click.echo(json.dumps([check.to_value() for check in checks], indent=2))
    if any(check.status == "failed" for check in checks):
        context.exit(3)


def _inside(context: click.Context, file: Path | None) -> list[Probe]:
    return probes_inside(read_config(context.find_object(Session).graph, file))  # type: ignore[union-attr]


def _line(check: Check) -> str:
    mark = click.style(MARKS[check.status], fg=COLOURS[check.status])
    lines = [f"{mark}  {check.name:<14} {check.found}"]
    if check.cure:
        lines.append(f"{'':<9}{'':<14} to mend it: {check.cure}")
    return "\n".join(lines)
