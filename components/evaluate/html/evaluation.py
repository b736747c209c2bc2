"""The evaluation section of a report, from `metrics.json`."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from components.evaluate.analysis import accuracy_interval
from components.evaluate.html.charts import bins_chart, curves_chart, reliability_chart
from components.evaluate.html.grids import confusion_map
from components.evaluate.html.page import data_uri, share
from components.models.calibration import TEMPERATURES

MAX_ROWS = 50
MAX_CONFUSIONS = 10
SMALL_SIDE = 64
PERFECT = 0.999_95

METRICS = {
    "accuracy": ("Accuracy", "share of right answers"),
    "top5": ("Top-5 accuracy", "the true class is among the five most likely"),
    "balanced_accuracy": (
        "Balanced accuracy",
        "mean recall of the classes: small ones count as much as large ones",
    ),
    "macro_f1": ("Macro F1", "mean over the classes of the balance of precision and recall"),
    "roc_auc": ("ROC-AUC", "how well each class is ranked above the rest; mean over the classes"),
    "average_precision": (
        "Average precision",
        "area under the precision-recall curve; mean over the classes",
    ),
    "loss": ("Loss", "cross-entropy, nats an image"),
}
SHARES = {"accuracy", "top5", "balanced_accuracy"}


def evaluation_context(document: Mapping[str, Any], pictures: Mapping[str, bytes]) -> dict[str, Any]:
    """What `evaluation.html.j2` shows; `pictures` is entry name → PNG file, of the mistakes."""
    classes = document["classes"]
    calibration = document["calibration"]
    confusion = np.array(document["confusion_matrix"], dtype=np.int64)
    support = {row["class"]: row["support"] for row in document["per_class"]}
    return {
        "split": document["split"],
        "num_samples": document["num_samples"],
        "num_classes": len(classes),
        "level": document["intervals"]["level"],
        "num_resamples": document["intervals"]["num_resamples"],
        "metrics": _metrics(document),
        "confusion_map": confusion_map(confusion, classes),
        "confusions": [
            {
                "true": classes[true],
                "answer": classes[answer],
                "count": count,
                "share": share(count / max(support[classes[true]], 1)),
            }
            for true, answer, count in document["top_confusions"][:MAX_CONFUSIONS]
        ],
        **_per_class(document["per_class"]),
        "roc": _curves(document["roc"], "false-positive rate", "true-positive rate", "auc", diagonal=True),
        "precision_recall": _curves(
            document["precision_recall"], "recall", "precision", "average_precision", diagonal=False
        ),
        "calibration_words": _calibration_words(calibration),
        "reliability": reliability_chart(calibration["bins"], ece=calibration["ece"]),
        "reliability_scaled": reliability_chart(calibration["bins_scaled"], ece=calibration["ece_scaled"])
        if calibration["bins_scaled"]
        else None,
        "confidence": bins_chart(calibration["bins"]),
        "worst": [_mistake(item, classes, pictures) for item in document.get("worst", [])],
    }


def accuracy_range(document: Mapping[str, Any]) -> str:
    """The interval to print beside the accuracy."""
    low, high = accuracy_interval(document)
    return f"{share(low)} – {share(high)}"


def _metrics(document: Mapping[str, Any]) -> list[dict[str, str]]:
    rows = []
    for name, (title, meaning) in METRICS.items():
        entry = document["metrics"].get(name)
        if entry is None:
            continue
        show = _percent if name in SHARES else _plain
        wide = "low" in entry and entry["low"] < entry["high"]
        bounds = f"{show(entry['low'])} – {show(entry['high'])}" if wide else ""
        rows.append({"name": title, "value": show(entry["value"]), "range": bounds, "meaning": meaning})
    low, high = document["accuracy_wilson"]
    rows.insert(
        1,
        {
            "name": "Accuracy (Wilson)",
            "value": rows[0]["value"],
            "range": f"{_percent(low)} – {_percent(high)}",
            "meaning": "its interval by Wilson's formula, which holds even without any mistake",
        },
    )
    return rows


def _per_class(rows: list[dict[str, Any]]) -> dict[str, Any]:
    shown = rows
    note = "Ranges: 95 % by Wilson's formula, which holds for few images too."
    if len(rows) > MAX_ROWS:
        shown = sorted(rows, key=lambda row: row["f1"])[:MAX_ROWS]
        note = f"The {MAX_ROWS} classes with the lowest F1, of {len(rows)}; all are in metrics.json. " + note
    table = [
        {
            "name": row["class"],
            "support": f"{row['support']:,}",
            "precision": row["precision"],
            "recall": row["recall"],
            "f1": share(row["f1"]),
            "roc_auc": _plain(row["roc_auc"]),
            "average_precision": _plain(row["average_precision"]),
        }
        for row in shown
    ]
    return {"per_class": table, "per_class_note": note}


def _curves(curves: Mapping[str, Any], x_label: str, y_label: str, figure: str, *, diagonal: bool) -> Any:
    if curves["macro"] is None:
        return None
    imperfect = [entry for entry in curves["classes"] if entry[figure] < PERFECT]
    curves = {"macro": curves["macro"], "classes": imperfect}
    return curves_chart(curves, x_label=x_label, y_label=y_label, figure=figure, diagonal=diagonal)


def _calibration_words(calibration: Mapping[str, Any]) -> str:
    words = (
        f"Expected calibration error {_percent(calibration['ece'])}: so far, on average, is the confidence of an "
        "answer from how often such answers are right (15 bins of equal width)."
    )
    temperature = calibration["temperature"]
    if temperature is None:
        return words
    if temperature <= TEMPERATURES[0] + 0.001:
        return (
            f"{words} Every answer on the validation split is right, so no temperature can be fitted there: a colder "
            "one is always better."
        )
    kind = "too sure" if temperature > 1 else "too modest" if temperature < 1 else "right"
    return (
        f"{words} The temperature fitted on the validation split is {temperature:g} (the model is {kind}); with it the "
        f"error would be {_percent(calibration['ece_scaled'])}."
    )


def _mistake(item: Mapping[str, Any], classes: list[str], pictures: Mapping[str, bytes]) -> dict[str, Any]:
    picture = pictures.get(item.get("picture") or "")
    return {
        "true": classes[item["label"]],
        "answer": classes[item["predicted"]],
        "sureness": share(item["probability"]),
        "truth": share(item["true_probability"]),
        "source": item["source"],
        "picture": data_uri(picture) if picture else None,
        "small": item.get("side", 0) < SMALL_SIDE,
    }


def _percent(value: float) -> str:
    return f"{value * 100:.2f} %"


def _plain(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"
