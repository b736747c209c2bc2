"""`conveyor run`: the whole pipeline, on this machine or in a cluster."""

from pathlib import Path

import click

from components.common.progress import make_reporter
from pipelines.commands.launching import prepare, run_options, tell
from pipelines.commands.options import Session
from pipelines.runner import run_pipeline


@click.command()
@run_options
@click.option("--until", metavar="STEP", help="Stop after this step.")
@click.pass_context
def run(
    ctx: click.Context,
    /,
    file: Path | None,
    settings: tuple[str, ...],
    until: str | None,
    run_id: str | None,
    as_json: bool,
    quiet: bool,
    **shortcuts: str | int | None,
) -> None:
    """Images in, promoted model out: every step in order, each reused where its result exists already.

    All settings are checked before anything starts. Stop it whenever you like: the same command goes on.
    """
    session: Session = ctx.obj
    ready = prepare(
        session,
        file,
        settings,
        shortcuts,
        command="run",
        until=until,
        run_id=run_id,
        as_json=as_json,
        quiet=quiet,
    )
    result = run_pipeline(
        ready.graph,
        ready.config,
        ready.store,
        make_reporter(quiet=quiet),
        run_id=run_id,
        executor=ready.executor,
    )
    tell(result, session, as_json=as_json)
