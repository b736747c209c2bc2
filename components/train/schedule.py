"""The learning rate as a function of the step."""

import math


def learning_rate(step: int, *, peak: float, warmup_steps: int, total_steps: int) -> float:
    """Linear warm-up to `peak`, then half a cosine down to zero (Loshchilov and Hutter 2017, without restarts).

    `step` counts from 0; the first step already moves (`peak / warmup_steps`), and the last one still does.
    """
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    share = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    return peak * 0.5 * (1.0 + math.cos(math.pi * min(share, 1.0)))


def ema_factor(step: int, decay: float) -> float:
    """How much of the old average stays at `step` (from 0): a short memory first, since fresh weights are noise."""
    return min(decay, (1 + step) / (10 + step))
