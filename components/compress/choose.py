"""Which candidate is taken: a pure function of what was measured."""

from collections.abc import Sequence
from dataclasses import dataclass

TIE = 0.10
"""Candidates within this share of the fastest one's latency count as equally fast: clocks repeat no better."""

DEFAULT_DROP = 0.005
# Accuracies are counts over counts; the slack only absorbs how a difference of two floats rounds.
EPSILON = 1e-9


@dataclass(frozen=True, slots=True)
class Option:
    """What the choice knows of a candidate."""

    name: str
    latency_ms: float
    """Batch 1, median."""
    accuracy: float
    """On the validation split."""
    size_bytes: int
    pruned: float = 0.0
    """Share of the channels removed."""


def allowed_drop(setting: float | None, num_validation: int) -> float:
    """The setting, or by default the larger of half a point and one image of the validation split."""
    if setting is not None:
        return setting
    return max(DEFAULT_DROP, 1 / max(num_validation, 1))


def fits(accuracy: float, *, baseline: float, drop: float) -> bool:
    """Whether a candidate lost no more than `drop` against the uncompressed model's accuracy `baseline`."""
    return accuracy >= baseline - drop - EPSILON


def choose(options: Sequence[Option], *, baseline: float, drop: float) -> Option:
    """The fastest of those that fit; among those that tie with it the most accurate, then the least pruned, then the
    smallest, then by name.

    A small validation split cannot tell good candidates apart: then what is nearest to the original is the safest.
    Raises `ValueError` where none fits (the uncompressed network as ONNX is always among the options, and does).
    """
    fitting = [option for option in options if fits(option.accuracy, baseline=baseline, drop=drop)]
    if not fitting:
        raise ValueError(f"no candidate is within {drop} of the accuracy {baseline}")
    fastest = min(option.latency_ms for option in fitting)
    tied = [option for option in fitting if option.latency_ms <= fastest * (1 + TIE)]
    return min(tied, key=lambda option: (-option.accuracy, option.pruned, option.size_bytes, option.name))
