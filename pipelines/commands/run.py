"""`conveyor run`: the whole pipeline on this machine."""

import json
import shlex
import sys
from pathlib import Path

import click

from components.common.errors import ConveyorError
from components.common.failures import InterruptedByUser, print_error, report_failure
from components.common.progress import make_reporter
from components.common.runs import check_run_id
from pipelines.commands.options import Session, config_options
from pipelines.config import read_config
from pipelines.result import Run, refused_before_start
from pipelines.runner import run_pipeline
from pipelines.summary import summary


@click.command()
@config_options
@click.option("--until", metavar="STEP", help="Stop after this step.")
@click.option("--run", "run_id", metavar="ID", help="Name of the run [date, time and four digits].")
@click.option(
    "--json", "as_json", is_flag=True, help="One JSON object on stdout (docs/cli.md) for a program to read."
)
@click.option("--quiet", is_flag=True, help="Only warnings, errors and the result.")
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
    store_url: str | None = None
    try:
        graph = session.graph.until(until)
        config = read_config(session.graph, file, settings, shortcuts)
        store_url = config.store.url
        if run_id is not None:
            check_run_id(run_id)
        store = config.store.open()
        store.check()
    except ConveyorError as error:
        if as_json:
            click.echo(json.dumps(refused_before_start(error, store_url)))
        raise
    result = run_pipeline(graph, config, store, make_reporter(quiet=quiet), run_id=run_id)
    if as_json:
        click.echo(json.dumps(result.to_json()))
    else:
        click.echo(summary(result, colour=sys.stdout.isatty()), nl=False)
    _explain_end(result, session)
    if result.exit_code() != 0:
        # Not ctx.exit, which click swallows: whatever a broken step left running must be ended.
        raise SystemExit(result.exit_code())


def _explain_end(result: Run, session: Session) -> None:
    """The error, if there was one, on stderr."""
    if isinstance(result.error, InterruptedByUser):
        again = ["conveyor", *session.arguments]
        if "--run" not in again:
            again += ["--run", result.run_id]
        print_error(
            InterruptedByUser(
                f"interrupted in {result.failed_step}; nothing is lost"
                if result.failed_step
                else "interrupted",
                todo=f"{shlex.join(again)}   goes on where it stopped",
            )
        )
    elif result.error is not None:
        report_failure(result.cause or result.error, debug=session.debug)
