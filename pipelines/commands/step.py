"""`conveyor step NAME`: one step, with its inputs taken from the run by the table's edges."""

import click

from components.common.main import make_command
from pipelines.commands.options import Session
from pipelines.graph import Graph


def _graph(ctx: click.Context) -> Graph:
    return ctx.find_object(Session).graph  # type: ignore[union-attr]


class StepGroup(click.Group):
    """One subcommand for each step of the table."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_graph(ctx).names())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _graph(ctx).names():
            return None
        row = _graph(ctx)[cmd_name]
        return make_command(row.name, row.package, dict(row.inputs))


@click.command(cls=StepGroup)
def step() -> None:
    """Run one step: what its container runs (`python -m components.NAME` is the same).

    Its inputs are what the steps before it left in the run, or references given with --input.
    """
