"""How far a model's confidence can be believed: reliability table, expected calibration error, temperature."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.models.metrics import Floats, Ints

NUM_BINS = 15
TEMPERATURES = (0.05, 20.0)


@dataclass(frozen=True, slots=True)
class Reliability:
    """Samples by confidence, in bins of equal width over (0, 1]; each array is [num_bins], empty bins are 0."""

    count: Ints
    confidence: Floats
    """Mean highest probability in the bin."""
    accuracy: Floats

    def ece(self) -> float:
        """Expected calibration error: mean distance of confidence and accuracy, weighted by samples."""
        total = self.count.sum()
        gaps = np.abs(self.confidence - self.accuracy)
        return float((gaps * self.count).sum() / total) if total else 0.0


def reliability(
    probabilities: NDArray[Any], labels: NDArray[Any], *, num_bins: int = NUM_BINS
) -> Reliability:
    """Table of confidence against accuracy; `probabilities` [n, K], `labels` [n].

    Bins of equal width, closed on the right, as Guo et al., "On Calibration of Modern Neural Networks" (2017), so that
    the error compares with published ones.
    """
    confidence = np.asarray(probabilities, dtype=np.float64).max(axis=1, initial=0.0)
    correct = np.argmax(probabilities, axis=1) == labels
    bins = np.clip(np.ceil(confidence * num_bins).astype(np.int64) - 1, 0, num_bins - 1)
    count = np.bincount(bins, minlength=num_bins).astype(np.int64)
    divisor = np.maximum(count, 1)
    return Reliability(
        count=count,
        confidence=np.bincount(bins, weights=confidence, minlength=num_bins) / divisor,
        accuracy=np.bincount(bins, weights=correct.astype(np.float64), minlength=num_bins) / divisor,
    )


def sample_nll(logits: NDArray[Any], labels: NDArray[Any], temperature: float = 1.0) -> Floats:
    """Negative log-likelihood of each sample, [n], in nats (what cross-entropy averages, without smoothing)."""
    scaled = np.asarray(logits, dtype=np.float64) / temperature
    highest = scaled.max(axis=1, keepdims=True)
    log_sum = np.log(np.exp(scaled - highest).sum(axis=1)) + highest[:, 0]
    true = np.take_along_axis(scaled, np.asarray(labels, dtype=np.int64)[:, None], axis=1)[:, 0]
    return np.asarray(log_sum - true)


def fit_temperature(logits: NDArray[Any], labels: NDArray[Any]) -> float:
    """The temperature that minimises the mean NLL, by golden-section search over its logarithm.

    The NLL is convex in 1/T, hence has one valley over log T. Where every answer is right it only falls towards T = 0:
    the result then is the lower end, 0.05. Deterministic; 1 for no samples.
    """
    if not len(labels):
        return 1.0
    ratio = (np.sqrt(5.0) - 1.0) / 2.0
    low, high = np.log(TEMPERATURES[0]), np.log(TEMPERATURES[1])

    def loss(log_temperature: float) -> float:
        return float(sample_nll(logits, labels, float(np.exp(log_temperature))).mean())

    left, right = high - ratio * (high - low), low + ratio * (high - low)
    loss_left, loss_right = loss(left), loss(right)
    while high - low > 1e-4:
        if loss_left <= loss_right:
            high, right, loss_right = right, left, loss_left
            left = high - ratio * (high - low)
            loss_left = loss(left)
        else:
            low, left, loss_left = left, right, loss_right
            right = low + ratio * (high - low)
            loss_right = loss(right)
    return round(float(np.exp((low + high) / 2)), 3)
