"""Run the graph on this machine: each step in order, each reused where its result exists."""

import json
import secrets
import time
from datetime import UTC, datetime

from components.common.canonical import Json, canonical_json
from components.common.failures import explain
from components.common.progress import Reporter
from components.common.refs import Ref
from components.common.runs import check_run_id
from components.common.sections import RootBase
from components.common.step import execute
from components.common.store import Store
from components.common.store.base import NotFoundError
from pipelines.graph import Graph
from pipelines.result import Run


def new_run_id() -> str:
    """Sorts by time, and two that start in the same second differ: 20261123-150612-3fa9."""
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def run_pipeline(
    graph: Graph, config: RootBase, store: Store, reporter: Reporter, *, run_id: str | None = None
) -> Run:
    """Run every step of `graph`. Never raises: what stopped the run is in `error`, with its exit status.

    Safe to call again with the same name after any interruption, and beside another run on the same store.
    """
    started = time.monotonic()
    run = Run(run_id=run_id or new_run_id(), store_url=store.url)
    step_started = started
    try:
        check_run_id(run.run_id)
        for number, step in enumerate(graph, start=1):
            run.failed_step, step_started = step.name, time.monotonic()
            reporter.info(f"[{number}/{len(graph)}] {step.name}")
            inputs = step.inputs_type()(**_outputs(run, dict(step.inputs)))
            outcome = execute(
                step.program(), config.section(step.name), inputs, store, reporter, run_id=run.run_id
            )
            run.outcomes[step.name] = outcome
            word = "reused" if outcome.state == "reused" else "done"
            reporter.info(f"[{number}/{len(graph)}] {step.name} {word} in {outcome.seconds:.1f} s")
        run.failed_step = None
    except BaseException as error:  # noqa: BLE001 - Ctrl-C included: the caller prints it and sets the status
        run.cause, run.error = error, explain(error)
        run.failed_seconds = time.monotonic() - step_started if run.failed_step else 0.0
    if run.error is None or run.error.exit_code != 130:
        _finish(run, store, reporter)
    run.seconds = time.monotonic() - started
    _store_result(run, store)
    return run


def _outputs(run: Run, edges: dict[str, str]) -> dict[str, Ref]:
    return {field: run.outcomes[upstream].output for field, upstream in edges.items()}


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


def _store_result(run: Run, store: Store) -> None:
    document: dict[str, Json] = {
        "version": 1,
        "ended": datetime.now(UTC).isoformat(timespec="seconds"),
        "overhead_seconds": round(run.overhead_seconds(), 3),
        "result": run.to_json(),
    }
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
