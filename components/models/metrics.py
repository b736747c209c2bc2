"""Classification metrics in plain numpy: labels and scores in, numbers out.

Everywhere: `labels` and `predicted` are integers [n]; `scores` (logits or probabilities) are floats [n, K]; a
confusion matrix is [K, K] with the true class as the row. Nothing here returns NaN where JSON could meet it: what is
not defined is None, or False in a mask.
"""

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]


def softmax(logits: NDArray[Any], temperature: float = 1.0) -> Floats:
    """Probabilities [n, K] in float64; each row sums to 1."""
    scaled = np.asarray(logits, dtype=np.float64) / temperature
    scaled -= scaled.max(axis=1, keepdims=True)
    exponentials = np.exp(scaled)
    return np.asarray(exponentials / exponentials.sum(axis=1, keepdims=True))


def predict_labels(scores: NDArray[Any]) -> Ints:
    """The class with the highest score; the lowest index where several share it."""
    return np.asarray(np.argmax(scores, axis=1), dtype=np.int64)


def accuracy(predicted: NDArray[Any], labels: NDArray[Any]) -> float:
    """Share of right answers; 0 for no samples."""
    return float(np.mean(predicted == labels)) if len(labels) else 0.0


def top_k_correct(scores: NDArray[Any], labels: NDArray[Any], k: int) -> NDArray[np.bool_]:
    """Whether the true class is among the `k` highest scores, [n]; of equal scores the lower index comes first.

    With `k` = 1 this agrees with `predict_labels`; with `k` ≥ K everything is right.
    """
    labels = np.asarray(labels, dtype=np.int64)
    true = np.take_along_axis(scores, labels[:, None], axis=1)
    columns = np.arange(scores.shape[1])
    ahead = (scores > true) | ((scores == true) & (columns[None, :] < labels[:, None]))
    return np.asarray(ahead.sum(axis=1) < k)


def top_k_accuracy(scores: NDArray[Any], labels: NDArray[Any], k: int) -> float:
    return float(np.mean(top_k_correct(scores, labels, k))) if len(labels) else 0.0


def confusion_matrix(predicted: NDArray[Any], labels: NDArray[Any], num_classes: int) -> Ints:
    """Counts [K, K]: row = true class, column = answer."""
    cells = np.asarray(labels, dtype=np.int64) * num_classes + np.asarray(predicted, dtype=np.int64)
    return np.bincount(cells, minlength=num_classes**2).reshape(num_classes, num_classes).astype(np.int64)


@dataclass(frozen=True, slots=True)
class PerClass:
    """One figure per class, each [K] (or [..., K], for a stack of confusion matrices)."""

    precision: Floats
    recall: Floats
    f1: Floats
    support: Ints
    """Samples of the class."""
    seen: NDArray[np.bool_]
    """Whether the class occurs at all, as truth or as answer; the others are 0 and count in no average."""


def per_class(confusion: NDArray[Any]) -> PerClass:
    """Precision, recall and F1 of each class; 0 where the denominator is 0 (as scikit-learn's `zero_division=0`)."""
    right = np.diagonal(confusion, axis1=-2, axis2=-1).astype(np.float64)
    support = confusion.sum(axis=-1)
    answered = confusion.sum(axis=-2)
    return per_class_from_counts(right, support, answered)


def per_class_from_counts(right: NDArray[Any], support: NDArray[Any], answered: NDArray[Any]) -> PerClass:
    """The same from the diagonal, the row sums and the column sums of the confusion matrix."""
    both = support + answered
    return PerClass(
        precision=_ratio(right, answered),
        recall=_ratio(right, support),
        f1=_ratio(2.0 * right, both),
        support=np.asarray(support, dtype=np.int64),
        seen=np.asarray(both > 0),
    )


def macro_average(values: Floats, mask: NDArray[np.bool_]) -> Floats:
    """Mean over the classes in `mask`, along the last axis; 0 where there is none."""
    return _ratio(np.where(mask, values, 0.0).sum(axis=-1), mask.sum(axis=-1))


def macro_f1(confusion: NDArray[Any]) -> float:
    """Mean F1 over the classes that occur, as truth or as answer."""
    table = per_class(confusion)
    return float(macro_average(table.f1, table.seen))


def balanced_accuracy(confusion: NDArray[Any]) -> float:
    """Mean recall over the classes that have samples."""
    table = per_class(confusion)
    return float(macro_average(table.recall, table.support > 0))


def roc_auc_per_class(scores: NDArray[Any], labels: NDArray[Any]) -> tuple[Floats, NDArray[np.bool_]]:
    """One-vs-rest area under the ROC curve of each class, [K], and where it is defined.

    It is not where the split has no sample of the class, or of no other. By rank sums (Mann and Whitney), ties counted
    half; the undefined are 0. Memory: one column at a time.
    """
    labels = np.asarray(labels)
    num_classes = scores.shape[1]
    areas = np.zeros(num_classes)
    positives = np.bincount(labels.astype(np.int64), minlength=num_classes)
    defined = (positives > 0) & (positives < len(labels))
    for label in np.flatnonzero(defined):
        ranks = _average_ranks(scores[:, label])
        num_positive = float(positives[label])
        num_negative = len(labels) - num_positive
        above = ranks[labels == label].sum() - num_positive * (num_positive + 1) / 2
        areas[label] = above / (num_positive * num_negative)
    return areas, np.asarray(defined)


def roc_auc(scores: NDArray[Any], labels: NDArray[Any]) -> float | None:
    """Macro average of the one-vs-rest areas over the classes where it is defined; None where it is for none."""
    areas, defined = roc_auc_per_class(scores, labels)
    return float(areas[defined].mean()) if defined.any() else None


def top_confusions(confusion: NDArray[Any], limit: int) -> list[tuple[int, int, int]]:
    """The most frequent mistakes as (true, answer, count), most frequent first, then in class order."""
    wrong = np.array(confusion, dtype=np.int64)
    np.fill_diagonal(wrong, 0)
    true, answer = np.nonzero(wrong)
    counts = wrong[true, answer]
    order = np.lexsort((answer, true, -counts))[:limit]
    return [(int(true[i]), int(answer[i]), int(counts[i])) for i in order]


def _ratio(numerator: NDArray[Any], denominator: NDArray[Any]) -> Floats:
    numerator = np.asarray(numerator, dtype=np.float64)
    denominator = np.asarray(denominator, dtype=np.float64)
    return np.asarray(np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator > 0))


def _average_ranks(values: NDArray[Any]) -> Floats:
    """Ranks from 1, the mean rank for equal values."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2)[inverse], dtype=np.float64)
