"""A run on a Kubeflow server: started, followed step by step, and what it came to."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import kfp_server_api

from components.common.errors import ConveyorError
from components.common.failures import explain
from components.common.kubeflow import as_run_id
from components.common.progress import Reporter
from pipelines.kubeflow.form import Value
from pipelines.kubeflow.server import LoginError, MissingError, Server, UnreachableError
from pipelines.kubeflow.task import REPORT
from pipelines.kubeflow.upload import Version
from pipelines.kubeflow.waiting import Waits, waiting_pods

ENDED = frozenset({"SUCCEEDED", "FAILED", "CANCELED", "SKIPPED"})
GIVE_UP_S = 600.0
"""Seconds without an answer after which following ends; the run itself goes on."""
LOGINS = 5
"""How often in a row the server may not know us before following ends."""
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
    again: str,
    poll_s: float,
    patience_s: float = 300.0,
    clock: Callable[[], float] = time.monotonic,
) -> End:
    """Tell every change of a step's state until the run has ended, and of a pod that waits longer than `patience_s`.

    `again` is the command that follows the run again. A server that does not answer or fails is asked again for ten
    minutes, one that does not know us a few times, since a token may be renewed. Whatever ends the following before the
    run says that the run goes on, unless it was deleted.
    """
    patience, progress = _Patience(clock), _Progress((*steps, REPORT), reporter)
    waits = Waits(patience_s, clock)
    while True:
        try:
            with server.calling() as client:
                detail = client.get_run(run.kubeflow_id)
        except (UnreachableError, LoginError) as error:
            if patience.is_over(error):
                raise goes_on(error, again) from None
            reporter.warning(f"{error.what}; asking again", found=error.found)
            time.sleep(poll_s)
            continue
        except MissingError:
            raise
        except Exception as error:
            # kfp's client fails in many ways over an answer that it does not know.
            raise goes_on(explain(error), again) from error
        patience.is_answered()
        progress.tell(step_states(detail, (*steps, REPORT)))
        for waiting in waits.too_long(waiting_pods(detail, (*steps, REPORT))):
            reporter.warning(
                f"{waiting.step} waits for its pod, which has not started for {patience_s:.0f} s",
                pod=waiting.pod,
                todo=f"kubectl describe pod {waiting.pod} says why: no node with room? no such image or Secret?",
            )
        if detail.state in ENDED:
            return _end_of(detail, (*steps, REPORT))
        time.sleep(poll_s)


def goes_on(error: ConveyorError, again: str) -> ConveyorError:
    """The same error, and that the run itself goes on."""
    todo = f"{again}   follows it again"
    return type(error)(
        f"{error.what}; the run goes on",
        where=error.where,
        expected=error.expected,
        found=error.found,
        todo=f"{error.todo}; {todo}" if error.todo else todo,
    )


class _Patience:
    """How long answers that are none are borne."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.is_answered()

    def is_answered(self) -> None:
        self.since: float | None = None
        self.refusals = 0

    def is_over(self, error: ConveyorError) -> bool:
        if isinstance(error, LoginError):
            self.refusals += 1
            return self.refusals > LOGINS
        self.since = self.since if self.since is not None else self.clock()
        return self.clock() - self.since > GIVE_UP_S


class _Progress:
    """Tells each change once."""

    def __init__(self, names: Sequence[str], reporter: Reporter) -> None:
        self.names = names
        self.reporter = reporter
        self.shown: dict[str, str] = {}

    def tell(self, states: Mapping[str, str]) -> None:
        for number, name in enumerate(self.names, start=1):
            state = states.get(name)
            if state is None or state == self.shown.get(name):
                continue
            self.shown[name] = state
            if state == "RUNNING":
                self.reporter.info(f"[{number}/{len(self.names)}] {name}")
            elif state in WORDS:
                self.reporter.info(f"[{number}/{len(self.names)}] {name} {WORDS[state]}")


def _end_of(run: kfp_server_api.V2beta1Run, names: Sequence[str]) -> End:
    states = step_states(run, names)
    failed = tuple(name for name in names if states.get(name) == "FAILED")
    # The server has a word for a run that was terminated and never uses it: such a run has failed, after CANCELING.
    was = {status.state for status in run.state_history or ()}
    state = "CANCELED" if run.state == "FAILED" and "CANCELING" in was else str(run.state)
    return End(state, failed, run.error.message if run.error else None)


def step_states(run: kfp_server_api.V2beta1Run, names: Sequence[str]) -> dict[str, str]:
    """Step → its state, of all that Kubeflow has begun; the last entry of a name counts."""
    details = (run.run_details.task_details if run.run_details else None) or ()
    return {
        detail.display_name: detail.state
        for detail in details
        if detail.display_name in names and detail.state
    }
