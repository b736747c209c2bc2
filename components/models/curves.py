"""ROC and precision-recall curves, thinned to what a plot and a JSON file need."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.models.metrics import Floats

MAX_POINTS = 200


@dataclass(frozen=True, slots=True)
class Curve:
    """Points of a curve with the threshold of each; all [points], finite."""

    x: Floats
    y: Floats
    threshold: Floats


def roc_curve(scores: NDArray[Any], positive: NDArray[np.bool_], *, max_points: int = MAX_POINTS) -> Curve:
    """False-positive rate (x) against true-positive rate (y), from (0, 0) to (1, 1); `scores` and `positive` [n].

    The threshold of (0, 0) is the highest score, where scikit-learn has infinity: JSON has none. Raises `ValueError`
    where one of the two kinds is missing.
    """
    thresholds, hits, answered = _cumulative(scores, positive)
    num_positive, num_negative = hits[-1], answered[-1] - hits[-1]
    if num_positive == 0 or num_negative == 0:
        raise ValueError("a ROC curve needs positive and negative samples")
    curve = Curve(
        x=np.concatenate([[0.0], (answered - hits) / num_negative]),
        y=np.concatenate([[0.0], hits / num_positive]),
        threshold=np.concatenate([thresholds[:1], thresholds]),
    )
    return thin(curve, max_points)


def precision_recall_curve(
    scores: NDArray[Any], positive: NDArray[np.bool_], *, max_points: int = MAX_POINTS
) -> Curve:
    """Recall (x) against precision (y), recall rising from 0. Raises `ValueError` where no sample is positive."""
    thresholds, hits, answered = _cumulative(scores, positive)
    if hits[-1] == 0:
        raise ValueError("a precision-recall curve needs positive samples")
    end = int(np.searchsorted(hits, hits[-1])) + 1
    curve = Curve(
        x=np.concatenate([[0.0], hits[:end] / hits[-1]]),
        y=np.concatenate([[1.0], hits[:end] / answered[:end]]),
        threshold=np.concatenate([thresholds[:1], thresholds[:end]]),
    )
    return thin(curve, max_points)


def average_precision(scores: NDArray[Any], positive: NDArray[np.bool_]) -> float:
    """Sum of precision times gain in recall, without interpolation; 0 where no sample is positive."""
    _, hits, answered = _cumulative(scores, positive)
    if hits[-1] == 0:
        return 0.0
    gains = np.diff(hits, prepend=0.0) / hits[-1]
    return float((gains * hits / answered).sum())


def thin(curve: Curve, max_points: int) -> Curve:
    """At most `max_points` points, ends kept: straight stretches lose their inside first, then evenly by length."""
    if len(curve.x) > 2:
        dx, dy = np.diff(curve.x), np.diff(curve.y)
        bends = np.abs(dx[:-1] * dy[1:] - dy[:-1] * dx[1:]) > 0
        keep = np.concatenate([[True], bends, [True]])
        curve = Curve(curve.x[keep], curve.y[keep], curve.threshold[keep])
    if len(curve.x) <= max_points:
        return curve
    length = np.concatenate([[0.0], np.cumsum(np.abs(np.diff(curve.x)) + np.abs(np.diff(curve.y)))])
    wanted = np.linspace(0.0, length[-1], max_points)
    index = np.unique(np.searchsorted(length, wanted).clip(0, len(length) - 1))
    index[0], index[-1] = 0, len(length) - 1
    return Curve(curve.x[index], curve.y[index], curve.threshold[index])


def _cumulative(scores: NDArray[Any], positive: NDArray[np.bool_]) -> tuple[Floats, Floats, Floats]:
    """Per distinct score, falling: the score, positives at or above it, samples at or above it."""
    if not len(scores):
        raise ValueError("a curve needs samples")
    order = np.argsort(-scores, kind="stable")
    ordered = np.asarray(scores, dtype=np.float64)[order]
    ends = np.flatnonzero(np.concatenate([ordered[1:] != ordered[:-1], [True]]))
    hits = np.cumsum(np.asarray(positive, dtype=np.float64)[order])[ends]
    return ordered[ends], hits, (ends + 1).astype(np.float64)
