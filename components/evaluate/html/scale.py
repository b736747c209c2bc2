"""Axes: round numbers for ticks, and where a value lies."""

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Scale:
    """A linear or logarithmic map from values to positions in a drawing."""

    low: float
    high: float
    start: float
    """Position of `low`."""
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high = self._of(self.low), self._of(self.high)
        share = (self._of(value) - low) / (high - low) if high > low else 0.5
        return self.start + share * (self.end - self.start)

    def _of(self, value: float) -> float:
        return math.log10(value) if self.log else value

    def ticks(self, wanted: int = 5) -> list[float]:
        """Round values within the range, some `wanted` of them."""
        if self.log:
            return _log_ticks(self.low, self.high)
        step = nice_step(self.high - self.low, wanted)
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [round(i * step, 12) for i in range(first, last + 1)]


def nice_step(span: float, wanted: int) -> float:
    """1, 2, 2.5 or 5 times a power of ten, so that `span` holds some `wanted` steps."""
    if span <= 0:
        return 1.0
    rough = span / max(wanted, 1)
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * (1 - 1e-9))


def padded(values: list[float], *, share: float = 0.06, at_least: float = 1e-9) -> tuple[float, float]:
    """A range around the values with some air; for one value a range of some width around it."""
    low, high = min(values), max(values)
    air = max((high - low) * share, at_least)
    return low - air, high + air


def _log_ticks(low: float, high: float) -> list[float]:
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    for factors in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 7)):
        ticks = [f * 10.0**p for p in range(first, last + 1) for f in factors]
        inside = [round(tick, 12) for tick in ticks if low * (1 - 1e-9) <= tick <= high * (1 + 1e-9)]
        if len(inside) >= 3:
            return inside
    return inside
