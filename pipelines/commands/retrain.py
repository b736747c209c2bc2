"""`conveyor retrain`: what a schedule calls."""

from pathlib import Path

import click

from components.common.progress import make_reporter
from pipelines.commands.launching import prepare, run_options, tell
from pipelines.commands.options import Session
from pipelines.retrain import retrain as retrain_


@click.command()
@run_options
@click.pass_context
def retrain(
    ctx: click.Context,
    /,
    file: Path | None,
    settings: tuple[str, ...],
    run_id: str | None,
    as_json: bool,
    quiet: bool,
    **shortcuts: str | int | None,
) -> None:
    """Train again from the newest data, starting with the champion's weights, and promote only what wins.

    Ends in seconds where data, settings and code are those of the last attempt. The exit status is 0 then, and also
    where the gates refuse the new model: a schedule has nothing to repair.
    """
    session: Session = ctx.obj
    ready = prepare(
        session,
        file,
        settings,
        shortcuts,
        command="retrain",
        run_id=run_id,
        as_json=as_json,
        quiet=quiet,
    )
    result = retrain_(
        ready.graph,
        ready.config,
        ready.store,
        make_reporter(quiet=quiet),
        run_id=run_id,
        executor=ready.executor,
    )
    tell(result, session, as_json=as_json)
