import math

import pytest

from components.train.schedule import ema_factor, learning_rate


def rates(total: int = 20, warmup: int = 4, peak: float = 0.1) -> list[float]:
    return [learning_rate(step, peak=peak, warmup_steps=warmup, total_steps=total) for step in range(total)]


def test_the_rate_rises_in_a_line_and_falls_along_half_a_cosine() -> None:
    found = rates()
    assert found[:4] == pytest.approx([0.025, 0.05, 0.075, 0.1])
    assert found[4] == 0.1
    assert found[12] == pytest.approx(0.05)
    assert found[4:] == sorted(found[4:], reverse=True)
    assert 0 < found[-1] < 0.002


def test_every_step_moves_without_a_warm_up() -> None:
    assert learning_rate(0, peak=0.1, warmup_steps=0, total_steps=1) == 0.1
    assert all(rate > 0 for rate in rates(warmup=0))


def test_torch_has_the_same_cosine() -> None:
    import torch

    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=0.1)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=20)
    for step in range(20):
        assert learning_rate(step, peak=0.1, warmup_steps=0, total_steps=20) == pytest.approx(
            theirs.get_last_lr()[0], rel=1e-9
        )
        optimizer.step()
        theirs.step()


def test_the_average_begins_with_a_short_memory() -> None:
    factors = [ema_factor(step, 0.99) for step in range(2000)]
    assert factors[0] == 0.1
    assert factors == sorted(factors)
    assert math.isclose(factors[-1], 0.99)
