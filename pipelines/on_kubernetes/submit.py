"""From any machine with a kubeconfig: make the launcher's Job (or join it), follow it, and end as it ends."""

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from components.cluster.answers import Unreachable
from components.cluster.api import CONFIG_MAP, JOB, POD, Cluster, Object
from components.cluster.connect import connect
from components.cluster.diagnose import own_error
from components.cluster.follow import JobWatch
from components.cluster.jobs import CONFIG, config_map, launcher_job
from components.cluster.launch import check_reachable, config_yaml
from components.cluster.names import TEMPLATE, config_name, run_name
from components.cluster.objects import Ensured, add_owners, ensure, ensure_job, same_template, template_digest
from components.cluster.patience import GivenUp, NeverStarted
from components.cluster.relay import Relay
from components.cluster.release import give_up
from components.cluster.views import selector, state_of
from components.common.errors import ConveyorError, InputError
from components.common.failures import InterruptedByUser
from components.common.progress import Reporter
from components.common.runs import check_run_id
from components.common.sections import RootBase
from pipelines.runner import new_run_id


@dataclass
class Submitted:
    """A launcher in the cluster, and what it came to once it was followed to its end."""

    run_id: str
    namespace: str
    job: str
    result: dict[str, Any] | None = None
    """The run's JSON result (docs/cli.md); None where the launcher left none."""
    summary: str | None = None
    exit_code: int = 0
    error: ConveyorError | None = None


def submit(
    command: Sequence[str],
    config: RootBase,
    reporter: Reporter,
    *,
    run_id: str | None = None,
    context: str | None = None,
    detach: bool = False,
    again: Sequence[str] = (),
) -> Submitted:
    """Have `conveyor COMMAND` do its work in the cluster, under `config`, and follow it unless `detach`.

    `command` is a subcommand that knows `--on kubernetes`, `--run` and `--json`, with its own options; the config is
    handed over whole. `again` is the command line that follows the run again. Raises what keeps the launcher from
    running; what the run itself failed of is in `error`.
    """
    check_reachable(config)
    run = check_run_id(run_id or new_run_id())
    cluster = connect(context=context, namespace=config.kubernetes.namespace)
    submitted = Submitted(run, cluster.namespace, run_name(run))
    relay = Relay(reporter)
    try:
        ensured = _start(cluster, command, config, run, relay, named=run_id is not None)
        if detach:
            return submitted
        _follow(cluster, ensured, submitted, config, relay, again)
    except KeyboardInterrupt:
        if cluster.get(JOB, submitted.job) is None:
            raise  # It came before there was anything to leave.
        raise _left_running(submitted, again) from None
    submitted.result, submitted.summary = relay.result, relay.summary
    if submitted.error is not None and relay.result is not None:
        _settle(submitted, relay.result)
    return submitted


def _follow(
    cluster: Cluster,
    ensured: Ensured,
    submitted: Submitted,
    config: RootBase,
    relay: Relay,
    again: Sequence[str],
) -> None:
    """Until the launcher's end, which goes into `submitted`. Raises what says nothing of the run itself."""
    try:
        JobWatch(cluster, JOB, submitted.job, relay, config.kubernetes.start_timeout_s).wait()
    except GivenUp as given:
        if ensured.created and isinstance(given, NeverStarted):
            give_up(cluster, ensured.job)
            raise given.error from None
        # Its steps may be running, by the hand of a launcher that was gone before we looked: they would go with it.
        submitted.error, submitted.exit_code = given.error, given.error.exit_code
        left = f"the run stays in the cluster, and goes on once this is cured: {_left_running(submitted, again).todo}"
        given.error.todo = f"{given.error.todo}; {left}" if given.error.todo else left
    except Unreachable as away:
        away.todo = f"{_left_running(submitted, again).todo} (once it can be reached again: the run goes on)"
        raise
    except ConveyorError as error:
        submitted.error, submitted.exit_code = error, error.exit_code


def _settle(submitted: Submitted, result: dict[str, Any]) -> None:
    """What the run says of its own failure is better than what its pod's end says."""
    told = result.get("error")
    if isinstance(told, dict):
        submitted.error = own_error(json.dumps(told), "") or submitted.error
        assert submitted.error is not None
        submitted.error.where = told.get("where")
        submitted.exit_code = int(told.get("exit_code") or 3)
    elif result.get("state") == "succeeded":
        # Everything ran, and a gate said no: the result tells it, and the status.
        submitted.error, submitted.exit_code = None, 4


def _start(
    cluster: Cluster, command: Sequence[str], config: RootBase, run: str, relay: Relay, *, named: bool
) -> Ensured:
    """The launcher's Job: made, joined where it runs, replaced where it failed."""
    settings, text = config.kubernetes, config_yaml(config)
    name, config_object = run_name(run), config_name(text)
    args = [*command, "--on", "kubernetes", "-f", CONFIG, "--json"]
    if named or command[0] == "run":
        args += ["--run", run]  # Retraining names its runs itself.

    def build(annotations: dict[str, str]) -> Object:
        return launcher_job(
            name, run, settings, config_map=config_object, command_args=args, annotations=annotations
        )

    body = build({TEMPLATE: template_digest(build({}))})
    file = config_map(config_object, text, settings)
    ensure(cluster, CONFIG_MAP, file)
    found = cluster.get(JOB, name)
    replace = found is not None and (
        not same_template(found, body) or not cluster.list(POD, labels=selector(found))
    )
    ensured = ensure_job(cluster, JOB, body, relay, replace_finished=replace, replace_other=False)
    job = ensured.job
    if not ensured.created and not same_template(job, body):
        raise InputError(
            f"the run {run} is under way in the cluster with other settings",
            where=f"Job {name} in the namespace {cluster.namespace}",
            todo=f"give this one another name (--run), wait for that one, or stop it: {how_to_stop(cluster.namespace, name)}",
        )
    verb = "started" if ensured.created else "joined" if state_of(job).name == "running" else "found"
    relay.info(f"run {run}: {verb} {name} in the namespace {cluster.namespace}")
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": name, "uid": job["metadata"]["uid"]}
    owned = config_map(config_object, text, settings, owners=(owner,))
    if add_owners(cluster, CONFIG_MAP, owned, also_unowned=True) is None:
        ensure(cluster, CONFIG_MAP, owned)  # It went with its last owner, just now.
    return ensured


def _left_running(submitted: Submitted, again: Sequence[str]) -> InterruptedByUser:
    command = [*again] if "--run" in again else [*again, "--run", submitted.run_id]
    return InterruptedByUser(
        f"the run {submitted.run_id} goes on in the cluster",
        todo=f"{shlex.join(command)}   follows it again; "
        f"{how_to_stop(submitted.namespace, submitted.job)}   stops it, with its steps",
    )


def how_to_stop(namespace: str, job: str) -> str:
    return f"kubectl -n {namespace} delete job {job}"
