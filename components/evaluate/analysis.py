"""From a model's outputs to `metrics.json`: pure functions, no I/O."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.common.canonical import Json
from components.models.calibration import Reliability, fit_temperature, reliability, sample_nll
from components.models.curves import Curve, average_precision, precision_recall_curve, roc_curve
from components.models.inference import Outputs
from components.models.intervals import (
    LEVEL,
    SEED,
    Interval,
    bootstrap_confusion,
    bootstrap_mean,
    wilson_bounds,
    wilson_interval,
)
from components.models.metrics import (
    Floats,
    Ints,
    confusion_matrix,
    per_class,
    predict_labels,
    roc_auc_per_class,
    softmax,
    top_confusions,
    top_k_correct,
)

VERSION = 1
DIGITS = 6
NUM_CURVES = 5
NUM_CONFUSIONS = 30
MAX_PAIRS = 20_000_000
GRID = np.linspace(0.0, 1.0, 101)


def analyse(
    outputs: Outputs,
    classes: tuple[str, ...],
    *,
    split: str,
    num_resamples: int,
    validation: Outputs | None = None,
) -> dict[str, Any]:
    """Everything there is to say about `outputs`, as JSON (docs/steps/evaluate.md lists the fields).

    `validation` are the same model's outputs on the validation split, which the temperature is fitted on.
    """
    labels, num_classes = outputs.labels, len(classes)
    probabilities = softmax(outputs.logits)
    predicted = predict_labels(outputs.logits)
    confusion = confusion_matrix(predicted, labels, num_classes)
    intervals = bootstrap_confusion(confusion, num_resamples=num_resamples)
    areas, defined = roc_auc_per_class(probabilities, labels)
    precisions = np.array([average_precision(probabilities[:, k], labels == k) for k in range(num_classes)])
    present = np.bincount(labels, minlength=num_classes) > 0

    metrics: dict[str, Json] = {
        "accuracy": _interval(intervals.accuracy),
        "balanced_accuracy": _interval(intervals.balanced_accuracy),
        "macro_f1": _interval(intervals.macro_f1),
        "loss": _mean(sample_nll(outputs.logits, labels), num_resamples),
    }
    if num_classes > 5:
        metrics["top5"] = _mean(top_k_correct(outputs.logits, labels, 5), num_resamples)
    if defined.any():
        metrics["roc_auc"] = {"value": _round(areas[defined].mean())}
        metrics["average_precision"] = {"value": _round(precisions[present].mean())}
    return {
        "version": VERSION,
        "split": split,
        "num_samples": len(labels),
        "classes": list(classes),
        "metrics": metrics,
        "accuracy_wilson": _rounded(wilson_interval(int(np.diagonal(confusion).sum()), len(labels))),
        "intervals": {"level": LEVEL, "num_resamples": num_resamples, "seed": SEED},
        "per_class": _per_class(classes, confusion, areas, defined, precisions),
        "confusion_matrix": confusion.tolist(),
        "top_confusions": [list(cell) for cell in top_confusions(confusion, NUM_CONFUSIONS)],
        "roc": _curves(roc_curve, probabilities, labels, areas, defined, classes, "auc")
        | _micro_roc(probabilities, labels),
        "precision_recall": _curves(
            precision_recall_curve, probabilities, labels, precisions, present, classes, "average_precision"
        ),
        "calibration": _calibration(outputs, probabilities, validation),
    }


def summary_metrics(document: dict[str, Any]) -> dict[str, float]:
    """The flat figures that the reference carries. A metric that is not defined on this split is left out."""
    metrics = document["metrics"]
    flat = {name: float(entry["value"]) for name, entry in metrics.items()}
    flat["accuracy_low"], flat["accuracy_high"] = accuracy_interval(document)
    flat.setdefault("top5", 1.0)
    flat["ece"] = document["calibration"]["ece"]
    if document["calibration"]["temperature"] is not None:
        flat["temperature"] = document["calibration"]["temperature"]
    return flat


def accuracy_interval(document: Mapping[str, Any]) -> tuple[float, float]:
    """The bootstrap's; without any mistake (or right answer) that has no width, and Wilson's is the honest one."""
    entry = document["metrics"]["accuracy"]
    low, high = (entry["low"], entry["high"]) if entry["low"] < entry["high"] else document["accuracy_wilson"]
    return float(low), float(high)


def worst_errors(outputs: Outputs, limit: int) -> list[int]:
    """Rows of the most confident mistakes, the surest first, then in row order."""
    probabilities = softmax(outputs.logits)
    predicted = predict_labels(outputs.logits)
    wrong = np.flatnonzero(predicted != outputs.labels)
    sureness = probabilities[wrong, predicted[wrong]]
    return [int(wrong[i]) for i in np.lexsort((wrong, -np.round(sureness, DIGITS)))[:limit]]


def _per_class(
    classes: tuple[str, ...],
    confusion: Ints,
    areas: Floats,
    defined: NDArray[np.bool_],
    precisions: Floats,
) -> list[dict[str, Json]]:
    """Precision and recall are shares of few images each, so their intervals are Wilson's: never of zero width."""
    table = per_class(confusion)
    right, answered = np.diagonal(confusion), confusion.sum(axis=0)
    precision = wilson_bounds(right, answered)
    recall = wilson_bounds(right, table.support)
    return [
        {
            "class": name,
            "support": int(table.support[k]),
            "precision": _interval(Interval(table.precision[k], precision[0][k], precision[1][k])),
            "recall": _interval(Interval(table.recall[k], recall[0][k], recall[1][k])),
            "f1": _round(table.f1[k]),
            "roc_auc": _round(areas[k]) if defined[k] else None,
            "average_precision": _round(precisions[k]) if table.support[k] else None,
        }
        for k, name in enumerate(classes)
    ]


def _curves(
    make: Callable[..., Curve],
    probabilities: Floats,
    labels: Ints,
    figures: Floats,
    defined: NDArray[np.bool_],
    classes: tuple[str, ...],
    figure: str,
) -> dict[str, Json]:
    """The mean over the classes, on a grid, and the curves of the classes with the lowest figure."""
    usable = np.flatnonzero(defined)
    if not len(usable):
        return {"macro": None, "classes": []}
    total = np.zeros(len(GRID))
    lowest = set(usable[np.argsort(figures[usable], kind="stable")[:NUM_CURVES]].tolist())
    chosen: dict[int, dict[str, Json]] = {}
    for k in usable.tolist():
        curve = make(probabilities[:, k], labels == k)
        total += _on_grid(curve)
        if k in lowest:
            chosen[k] = {
                "class": classes[k],
                figure: _round(figures[k]),
                "x": _rounded(curve.x),
                "y": _rounded(curve.y),
                "threshold": _rounded(curve.threshold),
            }
    ordered = sorted(chosen, key=lambda k: (figures[k], k))
    return {
        "macro": {"x": _rounded(GRID), "y": _rounded(total / len(usable))},
        "classes": [chosen[k] for k in ordered],
    }


def _micro_roc(probabilities: Floats, labels: Ints) -> dict[str, Json]:
    """The curve over all pairs of sample and class, with thresholds: what Kubeflow shows. Empty where it is too long."""
    if probabilities.size > MAX_PAIRS:
        return {"fpr": [], "tpr": [], "thresholds": []}
    positive = labels[:, None] == np.arange(probabilities.shape[1])[None, :]
    curve = roc_curve(probabilities.ravel(), positive.ravel())
    return {"fpr": _rounded(curve.x), "tpr": _rounded(curve.y), "thresholds": _rounded(curve.threshold)}


def _on_grid(curve: Curve) -> Floats:
    """The curve's upper value at each grid point; where it jumps, the height that it reaches there."""
    # The last of several points with the same x counts: searchsorted finds it from the right.
    last = np.searchsorted(curve.x, GRID, side="right") - 1
    at = curve.y[last]
    onward = np.minimum(last + 1, len(curve.x) - 1)
    gap = curve.x[onward] - curve.x[last]
    share = np.divide(GRID - curve.x[last], gap, out=np.zeros_like(GRID), where=gap > 0)
    return np.asarray(at + share * (curve.y[onward] - at))


def _calibration(outputs: Outputs, probabilities: Floats, validation: Outputs | None) -> dict[str, Json]:
    table = reliability(probabilities, outputs.labels)
    result: dict[str, Json] = {
        "ece": _round(table.ece()),
        "bins": _bins(table),
        "temperature": None,
        "ece_scaled": None,
        "loss_scaled": None,
        "bins_scaled": None,
    }
    if validation is not None and len(validation.labels) and len(outputs.labels):
        temperature = fit_temperature(validation.logits, validation.labels)
        scaled = reliability(softmax(outputs.logits, temperature), outputs.labels)
        result |= {
            "temperature": temperature,
            "ece_scaled": _round(scaled.ece()),
            "loss_scaled": _round(sample_nll(outputs.logits, outputs.labels, temperature).mean()),
            "bins_scaled": _bins(scaled),
        }
    return result


def _bins(table: Reliability) -> list[dict[str, Json]]:
    """Only the bins that hold samples, with the upper edge of each."""
    num = len(table.count)
    return [
        {
            "upper": _round((i + 1) / num),
            "count": int(table.count[i]),
            "confidence": _round(table.confidence[i]),
            "accuracy": _round(table.accuracy[i]),
        }
        for i in range(num)
        if table.count[i]
    ]


def _mean(values: NDArray[Any], num_resamples: int) -> Json:
    return _interval(bootstrap_mean(values, num_resamples=num_resamples))


def _interval(interval: Interval) -> dict[str, Json]:
    return {"value": _round(interval.value), "low": _round(interval.low), "high": _round(interval.high)}


def _round(value: Any) -> float:
    """Six decimals: what is beyond them differs between machines and means nothing."""
    return round(float(value), DIGITS)


def _rounded(values: Any) -> list[Json]:
    return [_round(value) for value in values]
