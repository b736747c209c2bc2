"""95 % intervals by the bootstrap: resampling that is a pure function of its seed.

Random numbers are Philox's raw 64-bit stream, which numpy keeps the same for ever (unlike the methods of `Generator`),
so an interval is the same on every machine and after every upgrade.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.models.metrics import Floats, Ints, macro_average, per_class_from_counts

SEED = 20_177
LEVEL = 0.95
# Drawn at once: bounds the memory at some 100 MB however large the split is.
BLOCK_DRAWS = 4_000_000


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure with its lower and upper bound."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class ConfusionIntervals:
    """What a confusion matrix says, with the uncertainty of its sample."""

    accuracy: Interval
    macro_f1: Interval
    balanced_accuracy: Interval
    precision: tuple[Floats, Floats]
    """Lower and upper bounds, each [K]."""
    recall: tuple[Floats, Floats]
    f1: tuple[Floats, Floats]


def bootstrap_mean(values: NDArray[Any], *, num_resamples: int, seed: int = SEED) -> Interval:
    """Percentile interval of the mean of `values` [n] (right or wrong per sample, a loss, a paired difference)."""
    values = np.asarray(values, dtype=np.float64)
    if not len(values):
        return Interval(0.0, 0.0, 0.0)
    means = [values[draws].mean(axis=1) for draws in _draws(len(values), num_resamples, seed)]
    low, high = _bounds(np.concatenate(means))
    return Interval(float(values.mean()), float(low), float(high))


def bootstrap_confusion(
    confusion: NDArray[Any], *, num_resamples: int, seed: int = SEED
) -> ConfusionIntervals:
    """Intervals of everything that a confusion matrix [K, K] determines.

    Drawing samples again means drawing cells in proportion to their counts, so only the cells that are not empty are
    drawn, counted and summed: exact, and fast for any number of samples.
    """
    true, answer = np.nonzero(confusion)
    counts = confusion[true, answer].astype(np.int64)
    cell_of_sample = np.repeat(np.arange(len(counts)), counts)
    num_samples, num_classes = len(cell_of_sample), len(confusion)
    if num_samples == 0:
        nothing = Interval(0.0, 0.0, 0.0)
        zeros = (np.zeros(num_classes), np.zeros(num_classes))
        return ConfusionIntervals(nothing, nothing, nothing, zeros, zeros, zeros)

    diagonal = true == answer
    figures: list[tuple[Floats, ...]] = []
    for draws in _draws(num_samples, num_resamples, seed):
        drawn = _count(cell_of_sample[draws], len(counts))
        table = per_class_from_counts(
            _sum_by(drawn[:, diagonal], true[diagonal], num_classes),
            _sum_by(drawn, true, num_classes),
            _sum_by(drawn, answer, num_classes),
        )
        figures.append(
            (
                drawn[:, diagonal].sum(axis=1) / num_samples,
                macro_average(table.f1, table.seen),
                macro_average(table.recall, table.support > 0),
                table.precision,
                table.recall,
                table.f1,
            )
        )
    accuracy, f1_mean, recall_mean, precision, recall, f1 = (
        np.concatenate(parts) for parts in zip(*figures, strict=True)
    )
    whole = per_class_from_counts(np.diagonal(confusion), confusion.sum(axis=1), confusion.sum(axis=0))
    return ConfusionIntervals(
        accuracy=_interval(np.diagonal(confusion).sum() / num_samples, accuracy),
        macro_f1=_interval(macro_average(whole.f1, whole.seen), f1_mean),
        balanced_accuracy=_interval(macro_average(whole.recall, whole.support > 0), recall_mean),
        precision=_bounds(precision),
        recall=_bounds(recall),
        f1=_bounds(f1),
    )


def wilson_interval(
    num_right: int, num_samples: int, *, z: float = 1.959_963_984_540_054
) -> tuple[float, float]:
    """Score interval of a share; honest where the bootstrap is not: no or only right answers.

    Source: Wilson, "Probable inference, the law of succession, and statistical inference" (1927).
    """
    if num_samples == 0:
        return 0.0, 1.0
    share = num_right / num_samples
    scale = 1 + z**2 / num_samples
    centre = (share + z**2 / (2 * num_samples)) / scale
    half = z / scale * np.sqrt(share * (1 - share) / num_samples + z**2 / (4 * num_samples**2))
    return max(0.0, float(centre - half)), min(1.0, float(centre + half))


def _draws(num_samples: int, num_resamples: int, seed: int) -> Iterator[Ints]:
    """Blocks [b, n] of indices drawn with replacement; `num_resamples` rows in all, whatever the block size."""
    generator = np.random.Philox(key=seed)
    block = max(1, min(num_resamples, BLOCK_DRAWS // num_samples))
    for start in range(0, num_resamples, block):
        rows = min(block, num_resamples - start)
        raw = np.asarray(generator.random_raw(rows * num_samples))
        # High halves times n, high half again: uniform over n up to a bias of n / 2^32.
        index = ((raw >> np.uint64(32)) * np.uint64(num_samples)) >> np.uint64(32)
        yield index.astype(np.int64).reshape(rows, num_samples)


def _count(cells: Ints, num_cells: int) -> Ints:
    """How often each cell occurs in each row: [b, n] → [b, num_cells]."""
    rows = len(cells)
    shifted = cells + (np.arange(rows) * num_cells)[:, None]
    return np.bincount(shifted.ravel(), minlength=rows * num_cells).reshape(rows, num_cells)


def _sum_by(drawn: Ints, group: Ints, num_groups: int) -> Ints:
    """Sum columns [b, cells] that belong to the same group: [b, num_groups]."""
    sums = np.zeros((num_groups, len(drawn)), dtype=np.int64)
    np.add.at(sums, group, drawn.T)
    return sums.T


def _bounds(values: Floats) -> tuple[Floats, Floats]:
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(values, [tail, 1 - tail], axis=0)
    return low, high


def _interval(value: Any, resampled: Floats) -> Interval:
    low, high = _bounds(resampled)
    return Interval(float(value), float(low), float(high))
