"""`conveyor step NAME`: one step, with its inputs taken from the run by the table's edges."""

from typing import Any

import click

from components.common.main import make_command


class StepGroup(click.Group):
    """One subcommand for each step of the table."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(ctx.obj.names())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in ctx.obj.names():
            return None
        row: Any = ctx.obj[cmd_name]
        return make_command(row.name, row.package, dict(row.inputs))


@click.command(cls=StepGroup)
def step() -> None:
    """Run one step, as its container does (python -m components.NAME).

    Its inputs are what the steps before it left in the run, or references given with --input.
    """
