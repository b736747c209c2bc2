"""What `conveyor run` and `conveyor retrain` share: options, the checks before anything starts, the last words."""

import json
import shlex
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from components.common.errors import ConveyorError
from components.common.failures import InterruptedByUser, print_error, report_failure
from components.common.notify import NotifyConfig
from components.common.progress import make_reporter
from components.common.runs import check_run_id
from components.common.sections import RootBase
from components.common.store import Store
from pipelines.commands.options import Session, config_options
from pipelines.config import read_config
from pipelines.executor import Executor, Here
from pipelines.graph import Graph
from pipelines.notify import notify_end
from pipelines.on_kubernetes.options import cluster_options, is_launcher
from pipelines.result import Run, refused_before_start
from pipelines.summary import summary

CommandT = TypeVar("CommandT", bound=Callable[..., Any])


@dataclass(frozen=True)
class Prepared:
    """Everything is checked, and nothing has started."""

    graph: Graph
    config: RootBase
    store: Store
    executor: Executor


def run_options(function: CommandT) -> CommandT:
    """The options of settings, --run, --json and --quiet, and where the steps work."""
    for option in reversed(
        (
            config_options,
            click.option(
                "--run", "run_id", metavar="ID", help="Name of the run [date, time and four digits]."
            ),
            click.option(
                "--json",
                "as_json",
                is_flag=True,
                help="One JSON object on stdout (docs/cli.md) for a program to read.",
            ),
            click.option("--quiet", is_flag=True, help="Only warnings, errors and the result."),
            cluster_options,
        )
    ):
        function = option(function)
    return function


def prepare(
    session: Session,
    file: Path | None,
    settings: tuple[str, ...],
    shortcuts: Mapping[str, Any],
    *,
    command: str,
    until: str | None = None,
    run_id: str | None = None,
    as_json: bool = False,
    quiet: bool = False,
) -> Prepared:
    """Check the settings and the store. Raises what is wrong, told as JSON first where that was asked for.

    `shortcuts` are the remaining options, those of `cluster_options` among them. With `--on kubernetes` outside the
    launcher's pod, `command` is handed to the cluster and the process leaves as that ends: this does not return then.
    """
    store_url: str | None = None
    given = dict(shortcuts)
    place, context, detach = given.pop("place"), given.pop("context"), given.pop("detach")
    executor: Executor = Here()
    notify = NotifyConfig()
    try:
        graph = session.graph.until(until)
        config = read_config(session.graph, file, settings, given)
        store_url, notify = config.store.url, config.notify
        if run_id is not None:
            check_run_id(run_id)
        if place == "kubernetes":
            if not is_launcher():
                from pipelines.on_kubernetes.command import submit_and_leave

                words = [command, *(("--until", until) if until is not None else ())]
                submit_and_leave(
                    words,
                    session,
                    config,
                    run_id=run_id,
                    context=context,
                    detach=detach,
                    as_json=as_json,
                    quiet=quiet,
                )
            from pipelines.on_kubernetes.executor import OnKubernetes

            executor = OnKubernetes(config)
        store = config.store.open()
        store.check()
    except ConveyorError as error:
        if as_json:
            click.echo(json.dumps(refused_before_start(error, store_url)))
        if is_launcher():
            # Nobody sits before a schedule's pod who would see that nothing even starts.
            refused = Run(run_id=run_id or "", store_url=store_url or "", error=error)
            notify_end(notify, refused, None, make_reporter(quiet=quiet))
        raise
    return Prepared(graph, config, store, executor)


def tell(result: Run, session: Session, *, as_json: bool) -> None:
    """Print how the run ended, and leave with its status."""
    if is_launcher():
        from pipelines.on_kubernetes.executor import tell_summary

        tell_summary(summary(result))
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
        if "--run" not in again and result.retraining is None:
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
