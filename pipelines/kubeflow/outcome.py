"""What a Kubeflow run came to, as far as can be known from here: the store tells all of it, the server the rest."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from components.common.errors import ConveyorError, InputError, StepError
from components.common.failures import error_fields, explain
from components.common.kubeflow import good_part
from components.common.progress import Reporter
from components.common.sections import known_steps
from components.common.store import open_store
from pipelines.kubeflow.runs import End, RemoteRun
from pipelines.runner import read_result
from pipelines.summary import percent

REFUSED = 4
FAMILY = "components.ingest"
"""Any of the steps that lie side by side."""


@dataclass(frozen=True)
class RemoteOutcome:
    """How a followed run ended."""

    state: str
    """Kubeflow's word."""
    exit_code: int
    error: ConveyorError | None = None
    result: Mapping[str, Any] = field(default_factory=dict)
    """The run's own JSON contract; empty where the store cannot be read from here."""

    def to_json(self, run: RemoteRun) -> dict[str, Any]:
        """The contract of `run --json`, as far as it is known, with Kubeflow's name and state of the run."""
        known = {"run": run.run_id, "store": run.store_url, **self.result}
        # What Kubeflow says counts: the steps may all have ended well, and the report not.
        known["state"] = "succeeded" if self.error is None else "failed"
        if self.error is not None:
            known.setdefault("error", {"step": None, **error_fields(self.error)})
        return {**known, "kubeflow_run": run.kubeflow_id, "kubeflow_state": self.state}

    def summary(self, run: RemoteRun) -> str:
        """A few aligned lines."""
        head = f"run {run.run_id} {'succeeded' if self.error is None else 'failed'} (Kubeflow: {self.state.lower()})"
        rows = []
        if self.result.get("metrics"):
            rows.append(("test accuracy", percent(self.result["metrics"]["accuracy"])))
        if self.result.get("compressed"):
            chosen = self.result["compressed"]["chosen"]
            rows.append(("compressed", f"{chosen['name']}, {percent(chosen['accuracy'])} on test"))
        if self.result.get("model"):
            word = "promoted" if self.result["promoted"] else "not promoted"
            rows.append((word, f"version {self.result['model']['version']}"))
        if self.result.get("report"):
            rows.append(("report", str(self.result["report"])))
        width = max((len(name) for name, _ in rows), default=0)
        return "\n".join([head, *(f"  {name:<{width}}  {text}" for name, text in rows)]) + "\n"


def outcome_of(run: RemoteRun, end: End, reporter: Reporter) -> RemoteOutcome:
    """Exit status and error of a run that has ended.

    Kubeflow knows no more than that a step failed. What it was, and whether a gate refused (which is no failure there),
    is in the result that the run's last task wrote to the store; where that cannot be read, a warning says so.
    """
    result = _result(run, reporter)
    if end.state == "SUCCEEDED":
        refused = bool(result.get("model")) and not (result["promoted"] or result.get("awaiting_approval"))
        return RemoteOutcome(end.state, REFUSED if refused else 0, None, result)
    told = result.get("error")
    error: ConveyorError
    if end.state == "CANCELED":
        error = StepError(
            "the run was cancelled in Kubeflow", todo="submit it again: it goes on where it stopped"
        )
    elif told and result.get("state") == "failed":
        kind = InputError if told.get("exit_code") == InputError.exit_code else StepError
        step = f"{told['step']}: " if told.get("step") else ""
        texts = {name: told[name] for name in ("where", "expected", "found", "todo") if told.get(name)}
        error = kind(f"{step}{told['what']}", **texts)
    else:
        failed = ", ".join(end.failed_steps)
        error = StepError(
            f"the run failed in {failed}" if failed else "the run failed",
            found=end.said,
            todo="the log of the failed task, in Kubeflow's interface, names the cause",
        )
    return RemoteOutcome(end.state, error.exit_code, error, result)


def _result(run: RemoteRun, reporter: Reporter) -> dict[str, Any]:
    """The result that the run left in the store, {} where it cannot be read from here."""
    if run.store_url is None:
        return {}
    try:
        settings = good_part(run.config, known_steps(FAMILY)).store
        # Pods may reach a server that this machine does not: two tries tell.
        settings = settings.model_copy(update={"max_attempts": 2})
        document: Any = read_result(open_store(run.store_url, settings), run.run_id)
    except Exception as error:  # noqa: BLE001 - the store may be one that only pods reach
        reporter.warning(
            "the store cannot be read from here, so whether the model was promoted is not known",
            store=run.store_url,
            error=explain(error).what,
        )
        return {}
    if document is None:
        reporter.warning("the run has left no result in the store", store=run.store_url, run=run.run_id)
        return {}
    if document.get("job") != run.kubeflow_id:
        reporter.warning(
            "the result in the store is of another run of this name",
            run=run.run_id,
            todo="give each run a name of its own, or none",
        )
        return {}
    found: dict[str, Any] = document.get("result", {})
    return found
