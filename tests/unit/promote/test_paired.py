import math
from statistics import NormalDist

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.promote.paired import Paired, default_margin, lower_bound, score, upper_bound

PAIRS = st.integers(1, 400).flatmap(
    lambda n: st.integers(0, n).flatmap(
        lambda won: st.integers(0, n - won).map(lambda lost: Paired(n, won, lost))
    )
)


def test_the_example_of_the_paper() -> None:
    """Tango 1998, table III: 44 pairs, none won and one lost; 90 % interval (-0.096, 0.037)."""
    pairs = Paired(44, 0, 1)
    assert lower_bound(pairs) == pytest.approx(-0.096, abs=5e-4)
    assert upper_bound(pairs) == pytest.approx(0.037, abs=5e-4)


@given(PAIRS)
def test_bounds_enclose_the_difference_and_mirror_each_other(pairs: Paired) -> None:
    low, high = lower_bound(pairs), upper_bound(pairs)
    assert -1 <= low <= pairs.difference + 1e-9
    assert pairs.difference - 1e-9 <= high <= 1
    assert upper_bound(Paired(pairs.num_images, pairs.lost, pairs.won)) == pytest.approx(-low)
    assert lower_bound(pairs, 0.99) <= low + 1e-9


@given(PAIRS, st.floats(0.005, 0.3))
def test_the_bound_and_the_test_say_the_same(pairs: Paired, margin: float) -> None:
    bound = lower_bound(pairs)
    if abs(bound + margin) > 1e-6:
        assert (bound >= -margin) == (score(pairs, -margin) >= NormalDist().inv_cdf(0.95))


@given(st.integers(1, 300), st.integers(0, 20), st.integers(0, 20))
def test_one_more_won_image_never_lowers_the_bound(n: int, won: int, lost: int) -> None:
    n += won + lost + 1
    assert lower_bound(Paired(n, won + 1, lost)) >= lower_bound(Paired(n, won, lost)) - 1e-9


def test_without_any_difference_the_statistic_is_known() -> None:
    for n, margin in ((50, 0.1), (180, 0.02), (1000, 0.01)):
        expected = math.sqrt(n * margin / (1 - margin))
        assert score(Paired(n, 0, 0), -margin) == pytest.approx(expected)


def test_no_image_proves_nothing() -> None:
    assert lower_bound(Paired(0, 0, 0)) == -1
    assert Paired(0, 0, 0).difference == 0


@pytest.mark.parametrize(
    ("n", "margin"), [(180, 6 / 180), (900, 0.35 / 30), (50_000, 0.01), (5, 0.5), (0, 0.5)]
)
def test_the_default_margin(n: int, margin: float) -> None:
    assert default_margin(n) == pytest.approx(margin)


@pytest.mark.parametrize("n", [40, 180, 600, 2000, 10_000])
def test_an_equal_model_passes_at_the_default_margin(n: int) -> None:
    exchanged = max(1, n // 100)  # one in a hundred mistakes exchanged for another
    assert lower_bound(Paired(n, exchanged, exchanged)) >= -default_margin(n)


@pytest.mark.parametrize("n", [180, 600, 2000, 10_000])
def test_a_clearly_worse_model_does_not(n: int) -> None:
    lost = math.ceil(n * (default_margin(n) + 0.005))
    assert lower_bound(Paired(n, 1, lost)) < -default_margin(n)


@pytest.mark.parametrize(("n", "discordant"), [(180, 0.04), (500, 0.06)])
def test_a_model_that_is_inferior_by_the_margin_passes_in_five_of_a_hundred_at_most(
    n: int, discordant: float
) -> None:
    """Exact, over all outcomes of the trinomial: the level of the test at its own border."""
    margin = default_margin(n)
    p_lost, p_won = (discordant + margin) / 2, max(0.0, (discordant - margin) / 2)
    passed = 0.0
    for won in range(30):
        for lost in range(60):
            if lower_bound(Paired(n, won, lost)) >= -margin:
                passed += math.exp(
                    math.lgamma(n + 1)
                    - math.lgamma(won + 1)
                    - math.lgamma(lost + 1)
                    - math.lgamma(n - won - lost + 1)
                    + won * math.log(p_won)
                    + lost * math.log(p_lost)
                    + (n - won - lost) * math.log(1 - p_won - p_lost)
                )
    assert passed < 0.06
