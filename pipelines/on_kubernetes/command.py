"""The command line's side of a run in the cluster: hand it over, show how it ends, leave with its status."""

import json
import shlex
import sys
from collections.abc import Sequence
from typing import NoReturn

import click

from components.common.failures import report_failure
from components.common.progress import make_reporter
from components.common.sections import RootBase
from pipelines.commands.options import Session
from pipelines.on_kubernetes.submit import Submitted, how_to_stop, submit


def submit_and_leave(
    command: Sequence[str],
    session: Session,
    config: RootBase,
    *,
    run_id: str | None,
    context: str | None,
    detach: bool,
    as_json: bool,
    quiet: bool,
) -> NoReturn:
    """Have a pod of the cluster run `command`; print what the command would print that works here, and exit so."""
    again = ["conveyor", *session.arguments]
    done = submit(
        command,
        config,
        make_reporter(quiet=quiet),
        run_id=run_id,
        context=context,
        detach=detach,
        again=again,
    )
    if done.error is not None and done.result is None:
        raise done.error
    if detach:
        _say_where(done, again, as_json=as_json)
    elif as_json:
        click.echo(json.dumps(done.result))
    elif done.summary is not None:
        click.echo(done.summary.rstrip())
    sys.stdout.flush()
    if done.error is not None:
        report_failure(done.error, debug=session.debug)
    raise SystemExit(done.exit_code)


def _say_where(done: Submitted, again: Sequence[str], *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"run": done.run_id, "namespace": done.namespace, "job": done.job}))
        return
    command = [part for part in again if part != "--detach"]
    if "--run" not in command:
        command += ["--run", done.run_id]
    click.echo(f"run {done.run_id} goes on in the namespace {done.namespace}")
    click.echo(f"  {shlex.join(command)}   follows it")
    click.echo(f"  {how_to_stop(done.namespace, done.job)}   stops it, with its steps")
