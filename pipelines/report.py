"""The report of a run: one HTML file that can be sent to a colleague."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.common.errors import ConveyorError
from components.common.refs import EvaluationRef, ModelRef, SnapshotRef
from components.common.step import Outcome
from components.common.store import Store
from components.evaluate.html.evaluation import evaluation_context
from components.evaluate.html.page import render
from pipelines.reporting.compression import compression_context
from pipelines.reporting.data import data_context
from pipelines.reporting.gather import RunView, gather
from pipelines.reporting.headline import tiles, verdict
from pipelines.reporting.lineage import lineage_context, steps_context
from pipelines.reporting.promotion import promotion_context
from pipelines.reporting.training import training_context

TEMPLATES = Path(__file__).parent / "reporting" / "templates"


def write_run_report(
    store: Store,
    run_id: str,
    outcomes: Mapping[str, Outcome] | None = None,
    *,
    failed_step: str | None = None,
    error: ConveyorError | None = None,
) -> str:
    """Render the report, store it as `runs/<id>/report.html`, and return where it is: a path, else a URL."""
    name = f"runs/{run_id}/report.html"
    store.put(name, render_run_report(store, run_id, outcomes, failed_step=failed_step, error=error))
    path = store.local_path(name)
    return str(path) if path is not None else f"{store.url}/{name}"


def render_run_report(
    store: Store,
    run_id: str,
    outcomes: Mapping[str, Outcome] | None = None,
    *,
    failed_step: str | None = None,
    error: ConveyorError | None = None,
) -> bytes:
    """The page. Steps that did not run leave their section out; raises `InputError` where there is no such run.

    `outcomes`, `failed_step` and `error` are what the runner knows at the end of a run; later they are read from the
    store.
    """
    view = gather(store, run_id, outcomes, failed_step=failed_step, error=error)
    document, pictures = _evaluation(view)
    parts: dict[str, Any] = {
        "data": data_context(view),
        "training": training_context(view),
        "e": evaluation_context(document, pictures) if document else None,
        "compression": compression_context(view),
        "promotion": promotion_context(view),
    }
    names = {
        "data": "Data",
        "training": "Training",
        "e": "Evaluation",
        "compression": "Compression",
        "promotion": "Promotion",
    }
    anchors = [("evaluation" if key == "e" else key, name) for key, name in names.items() if parts[key]]
    snapshot = view.of(SnapshotRef)
    title = snapshot[0].dataset if snapshot else "Run"
    return render(
        "run.html.j2",
        {
            "title": f"{title}: run {run_id}",
            "subtitle": _subtitle(view),
            "sections": [("steps", "Steps"), *anchors, ("lineage", "Lineage")],
            "verdict": verdict(view),
            "tiles": tiles(view, document, parts["compression"]),
            "steps": steps_context(view),
            "lineage": lineage_context(view),
            **parts,
        },
        TEMPLATES,
    )


def _evaluation(view: RunView) -> tuple[dict[str, Any] | None, dict[str, bytes]]:
    """`metrics.json` and the pictures of the mistakes."""
    found = view.of(EvaluationRef)
    if found is None:
        return None, {}
    step = found[1]
    document = view.document(step, "metrics.json")
    if document is None:
        return None, {}
    names = [item["picture"] for item in document.get("worst", []) if item["picture"] in step.tree]
    return document, {name: view.blobs.read(step.tree[name].digest) for name in names}


def _subtitle(view: RunView) -> str:
    snapshot, model = view.of(SnapshotRef), view.of(ModelRef)
    parts = []
    if snapshot is not None:
        ref = snapshot[0]
        parts.append(f"{ref.num_accepted:,} images of {len(ref.classes)} classes")
    if model is not None:
        parts.append(f"{model[0].architecture} at {model[0].image_size} × {model[0].image_size} px")
    return " · ".join(parts)
