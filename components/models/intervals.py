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
Z = 1.959_963_984_540_054  # the normal distribution's quantile for it
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
        return ConfusionIntervals(nothing, nothing, nothing)

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
            )
        )
    accuracy, f1_mean, recall_mean = (np.concatenate(parts) for parts in zip(*figures, strict=True))
    whole = per_class_from_counts(np.diagonal(confusion), confusion.sum(axis=1), confusion.sum(axis=0))
    return ConfusionIntervals(
        accuracy=_interval(np.diagonal(confusion).sum() / num_samples, accuracy),
        macro_f1=_interval(macro_average(whole.f1, whole.seen), f1_mean),
        balanced_accuracy=_interval(macro_average(whole.recall, whole.support > 0), recall_mean),
    )


def wilson_interval(num_right: int, num_samples: int) -> tuple[float, float]:
    """Score interval of one share; honest where the bootstrap is not: with no or only right answers."""
    low, high = wilson_bounds(np.array(num_right), np.array(num_samples))
    return float(low), float(high)


def wilson_bounds(num_right: NDArray[Any], num_samples: NDArray[Any]) -> tuple[Floats, Floats]:
    """95 % score intervals of many shares; (0, 1) where there is no sample.

    Source: Wilson, "Probable inference, the law of succession, and statistical inference" (1927).
    """
    num = np.maximum(num_samples, 1).astype(np.float64)
    share = num_right / num
    scale = 1 + Z**2 / num
    centre = (share + Z**2 / (2 * num)) / scale
    half = Z / scale * np.sqrt(share * (1 - share) / num + Z**2 / (4 * num**2))
    empty = np.asarray(num_samples) == 0
    low = np.where(empty, 0.0, np.clip(centre - half, 0.0, 1.0))
    return low, np.where(empty, 1.0, np.clip(centre + half, 0.0, 1.0))


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
