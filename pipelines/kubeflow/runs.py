"""A run on a Kubeflow server: started, followed step by step, and what it came to."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import kfp_server_api

from components.common.errors import StepError
from components.common.kubeflow import as_run_id
from components.common.progress import Reporter
from pipelines.kubeflow.form import Value
from pipelines.kubeflow.server import Server, UnreachableError
from pipelines.kubeflow.task import REPORT
from pipelines.kubeflow.upload import Version

ENDED = frozenset({"SUCCEEDED", "FAILED", "CANCELED", "SKIPPED"})
GIVE_UP_S = 600.0
"""Seconds without an answer after which following ends; the run itself goes on."""
WORDS = {"SUCCEEDED": "done", "FAILED": "failed", "CANCELED": "cancelled", "SKIPPED": "skipped"}


@dataclass(frozen=True, slots=True)
class RemoteRun:
    """A run of ours on a server."""

    kubeflow_id: str
    run_id: str
    """Its name in the store."""
    store_url: str | None
    config: str = ""
    """Of its form: how to reach the store."""


@dataclass(frozen=True, slots=True)
class End:
    """How Kubeflow says that a run ended."""

    state: str
    failed_steps: tuple[str, ...] = ()
    said: str | None = None


def start(
    server: Server,
    version: Version,
    values: Mapping[str, Value],
    *,
    experiment_id: str,
    title: str,
    service_account: str | None = None,
) -> RemoteRun:
    """Start a run of that version with the form's values."""
    with server.calling() as client:
        made = client.run_pipeline(
            experiment_id,
            title,
            pipeline_id=version.pipeline_id,
            version_id=version.version_id,
            params=dict(values),
            service_account=service_account,
        )
    return _remote(made.run_id, values)


def find(server: Server, kubeflow_id: str) -> RemoteRun:
    """A run that was started before. Raises `InputError` where there is none."""
    with server.calling() as client:
        run = client.get_run(kubeflow_id)
    return _remote(kubeflow_id, (run.runtime_config.parameters if run.runtime_config else None) or {})


def _remote(kubeflow_id: str, values: Mapping[str, Any]) -> RemoteRun:
    store = values.get("store")
    name = as_run_id(str(values.get("run") or kubeflow_id))
    return RemoteRun(kubeflow_id, name, str(store) if store else None, str(values.get("config") or ""))


def follow(
    server: Server,
    run: RemoteRun,
    steps: Sequence[str],
    reporter: Reporter,
    *,
    poll_s: float,
    clock: Callable[[], float] = time.monotonic,
) -> End:
    """Tell every change of a step's state until the run has ended.

    A server that does not answer for a while is asked again; after ten minutes `StepError` says that the run goes on.
    """
    shown: dict[str, str] = {}
    begun: dict[str, float] = {}
    silent_since: float | None = None
    while True:
        try:
            with server.calling() as client:
                detail = client.get_run(run.kubeflow_id)
        except UnreachableError as error:
            silent_since = silent_since or clock()
            if clock() - silent_since > GIVE_UP_S:
                raise StepError(
                    "the Kubeflow server has not answered for ten minutes; the run goes on",
                    where=error.where,
                    found=error.found,
                    todo=f"conveyor submit --attach {run.kubeflow_id}   follows it again",
                ) from None
            reporter.warning(f"{error.what}; asking again", found=error.found)
            time.sleep(poll_s)
            continue
        silent_since = None
        states = step_states(detail, (*steps, REPORT))
        for number, name in enumerate((*steps, REPORT), start=1):
            state = states.get(name)
            if state is None or state == shown.get(name):
                continue
            shown[name] = state
            begun.setdefault(name, clock())
            if state == "RUNNING":
                reporter.info(f"[{number}/{len(steps) + 1}] {name}")
            elif state in WORDS:
                reporter.info(f"[{number}/{len(steps) + 1}] {name} {WORDS[state]}")
        if detail.state in ENDED:
            failed = tuple(name for name in (*steps, REPORT) if states.get(name) == "FAILED")
            return End(detail.state, failed, detail.error.message if detail.error else None)
        time.sleep(poll_s)


def step_states(run: kfp_server_api.V2beta1Run, names: Sequence[str]) -> dict[str, str]:
    """Step → its state, of all that Kubeflow has begun; the last entry of a name counts."""
    details = (run.run_details.task_details if run.run_details else None) or ()
    return {
        detail.display_name: detail.state
        for detail in details
        if detail.display_name in names and detail.state
    }
