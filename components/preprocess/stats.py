"""Statistics of the training split: mean and deviation per channel, class counts and weights."""

from collections.abc import Sequence
from fractions import Fraction
from math import sqrt

LEAST_STD = 1 / 255
"""A channel that never changes must not divide by zero."""


def mean_and_std(
    sums: Sequence[int], squares: Sequence[int], num_pixels: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Per channel in [0, 1], from integer sums of pixel values: exact up to the last rounding."""
    mean = tuple(float(Fraction(total, 255 * num_pixels)) for total in sums)
    variance = (
        Fraction(square * num_pixels - total * total, (255 * num_pixels) ** 2)
        for total, square in zip(sums, squares, strict=True)
    )
    return mean, tuple(max(sqrt(value), LEAST_STD) for value in variance)


def class_weights(counts: Sequence[int]) -> tuple[float, ...]:
    """Inverse frequency, such that the mean over the training images is 1; 0 for a class without any."""
    present = sum(1 for count in counts if count)
    total = sum(counts)
    return tuple(total / (present * count) if count else 0.0 for count in counts)
