"""Run the graph: each step in order, each reused where its result exists, wherever the executor carries it out."""

import json
import secrets
import time
from collections.abc import Mapping
from datetime import UTC, datetime

from components.common.canonical import Json, canonical_json
from components.common.failures import EXIT_INTERRUPTED, explain
from components.common.given import give
from components.common.progress import Reporter
from components.common.refs import Ref
from components.common.runs import check_run_id
from components.common.sections import RootBase
from components.common.step import StepInputs
from components.common.store import Store
from components.common.store.base import NotFoundError
from pipelines.executor import Executor, Here
from pipelines.graph import Graph, Step
from pipelines.notify import notify_end
from pipelines.policy import Policy
from pipelines.result import Run


def new_run_id() -> str:
    """Sorts by time, and two that start in the same second differ: 20261123-150612-3fa9."""
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def run_pipeline(
    graph: Graph,
    config: RootBase,
    store: Store,
    reporter: Reporter,
    *,
    run_id: str | None = None,
    executor: Executor | None = None,
    policy: Policy | None = None,
) -> Run:
    """Run every step of `graph`. Never raises: what stopped the run is in `error`, with its exit status.

    `executor` carries out the steps (in this process if None); `policy` may give a step further inputs and end the run
    early. Safe to call again with the same name after any interruption, and beside another run on the same store.
    """
    executor, policy = executor or Here(), policy or Policy()
    started = time.monotonic()
    run = Run(run_id=run_id or new_run_id(), store_url=store.url)
    step_started = started
    try:
        check_run_id(run.run_id)
        for number, step in enumerate(graph, start=1):
            run.failed_step, step_started = step.name, time.monotonic()
            reporter.info(f"[{number}/{len(graph)}] {step.name}")
            inputs = _inputs(step, run, store, policy.inputs(step, run))
            outcome = executor.run(step, config, inputs, store, reporter, run_id=run.run_id)
            run.outcomes[step.name] = outcome
            word = "reused" if outcome.state == "reused" else "done"
            reporter.info(f"[{number}/{len(graph)}] {step.name} {word} in {outcome.seconds:.1f} s")
            if not policy.goes_on(step, run):
                break
        run.failed_step = None
    except BaseException as error:  # noqa: BLE001 - Ctrl-C included: the caller prints it and sets the status
        run.cause, run.error = error, explain(error)
        run.failed_seconds = time.monotonic() - step_started if run.failed_step else 0.0
    if run.unchanged:
        run.seconds = time.monotonic() - started
        return run
    if run.error is None or run.error.exit_code != EXIT_INTERRUPTED:
        _finish(run, store, reporter)
    policy.ended(run)
    run.seconds = time.monotonic() - started
    store_result(run, store)
    notify_end(config.notify, run, store, reporter)
    return run


def _inputs(step: Step, run: Run, store: Store, further: Mapping[str, Ref]) -> StepInputs:
    """What the edges say, and what the policy gives, which is noted in the run for a pod to find."""
    kind = step.inputs_type()
    if set(kind.model_fields) - set(step.inputs):
        give(store, run.run_id, step.name, further)
    return kind(
        **{field: run.outcomes[upstream].output for field, upstream in step.inputs.items()}, **further
    )


def _finish(run: Run, store: Store, reporter: Reporter) -> None:
    """The run's report; its failure must not hide what the run achieved."""
    if not run.outcomes:
        return
    try:
        from pipelines.report import write_run_report

        run.report = write_run_report(
            store, run.run_id, run.outcomes, failed_step=run.failed_step, error=run.error
        )
    except Exception as error:  # noqa: BLE001
        reporter.warning("the report could not be written", error=str(explain(error)))


def store_result(run: Run, store: Store, *, job: str | None = None) -> None:
    """Write what the run came to, for `conveyor runs`. Never raises: a failure becomes the run's, if it has none.

    `job` is who ran it (Kubeflow's name of the run), so that a later run of the same name does not take it for its own.
    """
    document: dict[str, Json] = {
        "version": 1,
        "ended": datetime.now(UTC).isoformat(timespec="seconds"),
        "overhead_seconds": round(run.overhead_seconds(), 3),
        "result": run.to_json(),
    }
    if job is not None:
        document["job"] = job
    try:
        store.put(f"runs/{run.run_id}/result.json", canonical_json(document))
    except Exception as error:  # noqa: BLE001 - the run's own error, if any, is the one to show
        if run.error is None:
            run.cause, run.error = error, explain(error)


def read_result(store: Store, run_id: str) -> dict[str, object] | None:
    """What a run came to, None where it has not ended (or was killed)."""
    try:
        data, _ = store.read(f"runs/{run_id}/result.json")
    except NotFoundError:
        return None
    value = json.loads(data)
    return value if isinstance(value, dict) else None
