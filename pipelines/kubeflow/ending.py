"""What the last task of a Kubeflow run does: gather what the steps left, write result and report, tell about it."""

import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path

from components.cluster.leftover import end_training
from components.common.ends import End, read_end
from components.common.errors import ConveyorError, InputError, StepError
from components.common.failures import explain, graceful, report_failure
from components.common.kubeflow import Artifact, Metrics, as_run_id, good_part, settle_in_pod
from components.common.main import write_file
from components.common.progress import make_reporter
from components.common.records import read_measurements, read_record
from components.common.runs import read_pointer
from components.common.sections import known_steps
from components.common.step import Outcome
from components.common.store import Store, open_store
from pipelines.notify import notify_end
from pipelines.report import write_run_report
from pipelines.result import Run
from pipelines.runner import store_result

# kfp.local's word, and that of the server's metadata.
SUCCEEDED = frozenset({"SUCCEEDED", "COMPLETE", "CACHED"})
CANCELLED = frozenset({"CANCELLED", "CANCELED"})


def end_run(
    state: str,
    run: str,
    store: str,
    config: str,
    *,
    job: str,
    steps: str,
    training_pods: int = 0,
    metrics: Metrics,
    page: Artifact,
) -> None:
    """Write `runs/<id>/result.json`, the report and the figures; exits with a status where that fails.

    `state` is how Kubeflow says that the steps ended; what failed and why is what the step itself has noted. The
    failure of a step is not this task's: it ends well where it could tell of it. Training in several pods that a run
    without success has left behind is ended first: it may hold many a GPU, and nobody follows it any more.
    """
    settle_in_pod()
    try:
        with graceful():
            packages = dict(pair.split("=") for pair in steps.split(","))
            settings = good_part(config, known_steps(next(iter(packages.values()))) | packages)
            if state not in SUCCEEDED and (training_pods or settings.kubernetes.training.pods) > 1:
                end_training(settings.kubernetes.namespace, make_reporter())
            for package in packages.values():
                import_module(f"{package}.run")  # makes its references known
            opened = open_store(store, settings.store)
            found = collect(opened, as_run_id(run or job), job, state, tuple(packages))
            # Of all steps together: kfp.local cannot tell a task when its run began.
            found.seconds = found.failed_seconds + sum(o.seconds for o in found.outcomes.values())
            _report(found, opened, page)
            store_result(found, opened, job=job)
            notify_end(settings.notify, found, opened, make_reporter())
            for name, value in shown(found).items():
                metrics.log_metric(name, value)
    except BaseException as error:  # noqa: BLE001 - the last stop of everything
        sys.exit(report_failure(error))


def collect(store: Store, run_id: str, job: str, state: str, names: Sequence[str]) -> Run:
    """The run as its steps left it in the store.

    What they noted counts before `state`: the server may ask for it before it has written down how the last one ended.
    """
    run = Run(run_id=run_id, store_url=store.url)
    ends = {name: end for name in names if (end := read_end(store, run_id, name)) and end.job == job}
    failed = next((end for end in ends.values() if end.state == "failed"), None)
    succeeded = failed is None and (len(ends) == len(names) or state in SUCCEEDED)
    for name in names:
        end = ends.get(name)
        # Of a run that failed, what an earlier one of the same name left tells nothing.
        if not succeeded and (end is None or end.state == "failed"):
            continue
        outcome = _outcome(store, run_id, name, end)
        if outcome is not None:
            run.outcomes[name] = outcome
    if not succeeded:
        run.failed_step = failed.step if failed else next((n for n in names if n not in ends), None)
        run.failed_seconds = failed.seconds if failed else 0.0
        run.error = _as_error(failed.error) if failed else _without_a_word(state)
        run.cause = run.error
    return run


def shown(run: Run) -> dict[str, float]:
    """Figures of the whole run, as Kubeflow's list of runs can show and compare them."""
    result = run.to_json()
    found: dict[str, float] = {"exit_code": float(run.exit_code()), "promoted": float(result["promoted"])}
    if result["ingest"] is not None:
        found["accepted"] = float(result["ingest"]["accepted"])
        found["quarantined"] = float(result["ingest"]["quarantined"])
    if result["metrics"] is not None:
        found["accuracy"] = float(result["metrics"]["accuracy"])
    if result["compressed"] is not None:
        chosen = result["compressed"]["chosen"]
        found["compressed_accuracy"] = float(chosen["accuracy"])
        found["compressed_size_bytes"] = float(chosen["size_bytes"])
    return found


def _report(run: Run, store: Store, page: Artifact) -> None:
    reporter = make_reporter()
    try:
        if run.outcomes:
            run.report = write_run_report(
                store, run.run_id, run.outcomes, failed_step=run.failed_step, error=run.error
            )
            data, _ = store.read(f"runs/{run.run_id}/report.html")
        else:
            data = _bare_page(run)
        write_file(Path(page.path), data)
    except Exception as error:  # noqa: BLE001 - the result is still to be written
        reporter.warning("the report could not be written", error=str(explain(error)))
        write_file(Path(page.path), _bare_page(run))


def _bare_page(run: Run) -> bytes:
    from html import escape

    text = str(run.error) if run.error is not None else "nothing ran"
    return f"<!doctype html><title>{escape(run.run_id)}</title><pre>{escape(text)}</pre>".encode()


def _outcome(store: Store, run_id: str, name: str, end: End | None) -> Outcome | None:
    pointer = read_pointer(store, run_id, name)
    record = read_record(store, name, pointer.key) if pointer else None
    if record is None:
        return None
    output = record.output_ref()
    measurements = read_measurements(store, name, record.key, output)
    return Outcome(
        step=name,
        key=record.key,
        state="reused" if end is not None and end.state == "reused" else "done",
        seconds=end.seconds if end is not None else float(measurements.get("seconds", 0.0)),
        output=output,
        measurements=measurements,
    )


def _as_error(fields: Mapping[str, object]) -> ConveyorError:
    kind = InputError if fields.get("exit_code") == InputError.exit_code else StepError
    texts = {name: str(fields[name]) for name in ("where", "expected", "found", "todo") if fields.get(name)}
    return kind(str(fields.get("what", "a step failed")), **texts)


def _without_a_word(state: str) -> ConveyorError:
    if state in CANCELLED:
        return StepError("the run was cancelled in Kubeflow")
    return StepError(
        "a step's pod ended without a word: it was killed, or never started",
        todo="was the run terminated? else look at the pod of the failed task (killed for memory? image not found?); a new "
        "run goes on where this one stopped",
    )
