"""`conveyor submit`: the pipeline on a Kubeflow server, followed to its end."""

import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from components.cluster.config import KubernetesConfig
from components.common.failures import InterruptedByUser, report_failure
from components.common.progress import make_reporter
from pipelines.commands.kubeflow_options import connect, doubts, pipeline_options, server_options, wanted
from pipelines.commands.options import Session
from pipelines.runner import new_run_id

if TYPE_CHECKING:
    from pipelines.kubeflow.runs import RemoteRun
    from pipelines.kubeflow.server import Server


@click.command()
@pipeline_options
@click.option("--run", "run_id", metavar="ID", help="Name of the run in the store [Kubeflow's own].")
@click.option(
    "--follow/--detach",
    "following",
    default=True,
    help="Follow the run and end with its exit status, or leave as soon as it is started [--follow].",
)
@click.option("--attach", metavar="RUN-ID", help="Start nothing: follow a run that was started before.")
@server_options
@click.option(
    "--poll",
    "poll_s",
    type=click.FloatRange(min=0.01),
    default=5.0,
    show_default=True,
    help="Seconds between two looks at the run.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
@click.option("--quiet", is_flag=True, help="Only warnings, errors and the result.")
@click.pass_obj
def submit(
    session: Session,
    /,
    file: Path | None,
    settings: tuple[str, ...],
    parameters: tuple[str, ...],
    image: str | None,
    pipeline: str,
    experiment: str,
    service_account: str | None,
    run_id: str | None,
    following: bool,
    attach: str | None,
    host: str | None,
    namespace: str | None,
    token_file: Path | None,
    ca_file: Path | None,
    poll_s: float,
    as_json: bool,
    quiet: bool,
    **shortcuts: Any,
) -> None:
    """Upload the pipeline to a Kubeflow Pipelines server (2.16 or newer; once), start a run and follow it.

    Ends with the run's exit status: 0 done, 2 wrong settings, 3 a step failed, 4 a gate refused. Ctrl-C leaves the run
    going.
    """
    reporter = make_reporter(quiet=quiet)
    patience_s = KubernetesConfig().start_timeout_s
    if attach is not None:
        server = connect(host, namespace, token_file, ca_file)
        from pipelines.kubeflow.runs import find

        run = find(server, attach)
    else:
        what = wanted(session, file, settings, parameters, image, shortcuts)
        if run_id:
            what.values["run"] = run_id
        _check_run(what.values)
        server = connect(host, namespace, token_file, ca_file)
        from pipelines.kubeflow.runs import start
        from pipelines.kubeflow.upload import experiment_id, upload

        for doubt in doubts(what.kubernetes):
            reporter.warning(doubt)
        version = upload(server, session.graph, what.kubernetes, pipeline)
        reporter.info(f"{'uploaded' if version.is_new else 'using'} version {version.name} of {pipeline}")
        run = start(
            server,
            version,
            what.values,
            experiment_id=experiment_id(server, experiment),
            # Without a name of ours the run is called by Kubeflow's, so that a clone of it does not write over it.
            title=f"{pipeline} {what.values.get('run') or new_run_id()}",
            service_account=service_account,
        )
        patience_s = what.kubernetes.start_timeout_s
    if page := server.page_of(run.kubeflow_id):
        reporter.info(f"Kubeflow shows it at {page}")
    if following:
        _follow(server, run, session, poll_s, patience_s, as_json=as_json, quiet=quiet)
        return
    if as_json:
        click.echo(json.dumps({"run": run.run_id, "kubeflow_run": run.kubeflow_id, "store": run.store_url}))
    else:
        click.echo(f"run {run.run_id} is started; {_again(server, run)}   follows it")


def _check_run(values: dict[str, str | int]) -> None:
    from pipelines.kubeflow.form import check_values

    check_values(values)


def _follow(
    server: "Server",
    run: "RemoteRun",
    session: Session,
    poll_s: float,
    patience_s: float,
    *,
    as_json: bool,
    quiet: bool,
) -> None:
    """To the end, and out with the run's status."""
    from pipelines.kubeflow.outcome import outcome_of
    from pipelines.kubeflow.runs import follow

    reporter = make_reporter(quiet=quiet)
    try:
        reporter.info(f"following run {run.run_id}", kubeflow=run.kubeflow_id, server=server.host)
        end = follow(
            server,
            run,
            session.graph.names(),
            reporter,
            again=_again(server, run),
            poll_s=poll_s,
            patience_s=patience_s,
        )
    except KeyboardInterrupt:
        raise InterruptedByUser(
            f"no longer following run {run.run_id}, which goes on in Kubeflow",
            todo=f"{_again(server, run)}   follows it again",
        ) from None
    outcome = outcome_of(run, end, reporter)
    if as_json:
        click.echo(json.dumps(outcome.to_json(run)))
    else:
        click.echo(outcome.summary(run), nl=False)
    sys.stdout.flush()
    if outcome.error is not None:
        report_failure(outcome.error, debug=session.debug)
    if outcome.exit_code != 0:
        raise SystemExit(outcome.exit_code)


def _again(server: "Server", run: "RemoteRun") -> str:
    # Only what was given: where the server was found through the kubeconfig, it will be again.
    return shlex.join(["conveyor", "submit", "--attach", run.kubeflow_id, *server.address.options()])
