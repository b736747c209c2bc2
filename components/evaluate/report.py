"""The report of one evaluation: `report.html` of its tree."""

from collections.abc import Mapping
from typing import Any

from components.common.refs import ModelRef
from components.evaluate.html.evaluation import accuracy_range, evaluation_context
from components.evaluate.html.page import render, share


def render_report(document: Mapping[str, Any], pictures: Mapping[str, bytes], model: ModelRef) -> bytes:
    """One self-contained page; the same arguments give the same bytes."""
    accuracy = document["metrics"]["accuracy"]
    f1 = document["metrics"]["macro_f1"]
    num, wrong = document["num_samples"], _num_wrong(document)
    tiles = [
        _tile("Accuracy", share(accuracy["value"]), accuracy_range(document)),
        _tile("Macro F1", f"{f1['value']:.3f}", f"{f1['low']:.3f} – {f1['high']:.3f}"),
        _tile("Mistakes", f"{wrong:,}", f"of {num:,} images of the {document['split']} split"),
        _tile("Calibration error", share(document["calibration"]["ece"]), "expected, 15 bins"),
    ]
    facts = [
        ("architecture", model.architecture),
        ("parameters", f"{model.num_parameters:,}"),
        ("epochs", f"{model.epochs}"),
        (
            "image",
            f"{model.image_size} × {model.image_size} px, {'grey' if model.channels == 1 else 'colour'}",
        ),
        ("classes", f"{len(model.classes)}"),
        ("weights", model.weights),
        ("model", model.tree),
        ("shards", model.shards),
    ]
    return render(
        "evaluate.html.j2",
        {
            "title": f"Evaluation of {model.architecture}",
            "subtitle": f"{num:,} images of the {document['split']} split, {len(model.classes)} classes",
            "sections": [("evaluation", "Evaluation"), ("model", "Model")],
            "tiles": tiles,
            "facts": facts,
            "e": evaluation_context(document, pictures),
        },
    )


def _num_wrong(document: Mapping[str, Any]) -> int:
    matrix = document["confusion_matrix"]
    return int(document["num_samples"] - sum(matrix[k][k] for k in range(len(matrix))))


def _tile(name: str, value: str, more: str) -> dict[str, str]:
    return {"name": name, "value": value, "more": more}
