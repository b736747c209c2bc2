"""Paired comparison of two classifiers on the same images: how sure one can be of the difference of their accuracies."""

from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist

CONFIDENCE = 0.95
STEPS = 60
"""Bisections of [-1, 1]: far beyond what a float of this size can hold apart."""


@dataclass(frozen=True, slots=True)
class Paired:
    """What n images say of a challenger and a champion; images that both get right or both wrong say nothing."""

    num_images: int
    won: int
    """Challenger right, champion wrong."""
    lost: int
    """Champion right, challenger wrong."""

    @property
    def difference(self) -> float:
        """Challenger's accuracy minus champion's."""
        return (self.won - self.lost) / self.num_images if self.num_images else 0.0


def score(pairs: Paired, difference: float) -> float:
    """Tango's score statistic of the hypothesis that the true difference is `difference`, approximately N(0, 1).

    With b = won, c = lost, n images and Δ = difference:
    T(Δ) = (b − c − nΔ) / sqrt(n (2q + Δ(1 − Δ))), q the restricted maximum likelihood estimate of the share of lost
    images: q = (sqrt(B² − 4AC) − B) / 2A with A = 2n, B = −b − c + (2n − b + c)Δ, C = −cΔ(1 − Δ).
    It stays meaningful for few discordant images, and for none, where Wald's interval has no width.

    Source: Tango, "Equivalence test and confidence interval for the difference in proportions for the paired-sample
    design", Statistics in Medicine 17 (1998), 891-908.
    """
    n, b, c = pairs.num_images, pairs.won, pairs.lost
    big_a = 2 * n
    big_b = -b - c + (2 * n - b + c) * difference
    big_c = -c * difference * (1 - difference)
    q = (sqrt(max(0.0, big_b**2 - 4 * big_a * big_c)) - big_b) / (2 * big_a)
    variance = n * (2 * q + difference * (1 - difference))
    distance = b - c - n * difference
    if variance <= 0:
        return 0.0 if distance == 0 else float("inf") if distance > 0 else float("-inf")
    return distance / sqrt(variance)


def lower_bound(pairs: Paired, confidence: float = CONFIDENCE) -> float:
    """One-sided lower confidence bound of the true difference: the smallest that the data do not reject."""
    if pairs.num_images == 0:
        return -1.0
    z = NormalDist().inv_cdf(confidence)
    low, high = -1.0, pairs.difference
    for _ in range(STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if score(pairs, middle) > z else (low, middle)
    return low


def upper_bound(pairs: Paired, confidence: float = CONFIDENCE) -> float:
    """One-sided upper confidence bound of the true difference."""
    mirrored = Paired(pairs.num_images, pairs.lost, pairs.won)
    return -lower_bound(mirrored, confidence)


def default_margin(num_images: int) -> float:
    """The largest of one point, six images, and 0.35 / sqrt(n): less could not be shown even of an equal model.

    Two models that never differ give Tango's statistic sqrt(n m / (1 - m)) at a margin m: below 2.7 images not even
    the champion itself would pass. And an equally good model that differs on 2 % of the images has a standard error of
    sqrt(0.02 / n), of which 1.64 + 0.84 must fit into the margin for it to pass four times in five.
    """
    num = max(num_images, 1)
    return max(0.01, min(0.5, 6 / num), 0.35 / sqrt(num) if num > 36 else 0.0)
