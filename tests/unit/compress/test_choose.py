import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.compress.choose import TIE, Option, allowed_drop, choose, fits

OPTIONS = st.lists(
    st.builds(
        Option,
        name=st.text("abc", min_size=1, max_size=3),
        latency_ms=st.floats(0.01, 100),
        accuracy=st.integers(0, 200).map(lambda k: k / 200),
        size_bytes=st.integers(1, 10),
        pruned=st.sampled_from([0.0, 0.25, 0.5]),
    ),
    min_size=1,
    max_size=8,
    unique_by=lambda option: option.name,
)


def best_by_the_rule(options: list[Option], baseline: float, drop: float) -> Option:
    """The rule once more, as slowly and literally as its sentence."""
    fitting = [o for o in options if o.accuracy >= baseline - drop - 1e-9]
    tied = [o for o in fitting if all(o.latency_ms <= (1 + TIE) * other.latency_ms for other in fitting)]
    best = [o for o in tied if all(o.accuracy >= other.accuracy for other in tied)]
    whole = [o for o in best if all(o.pruned <= other.pruned for other in best)]
    small = [o for o in whole if all(o.size_bytes <= other.size_bytes for other in whole)]
    return min(small, key=lambda o: o.name)


@given(OPTIONS, st.sampled_from([0.0, 0.005, 0.05, 1.0]))
def test_the_choice_follows_the_rule_and_the_order_of_candidates_does_not_matter(
    options: list[Option], drop: float
) -> None:
    baseline = options[0].accuracy
    chosen = choose(options, baseline=baseline, drop=drop)
    assert chosen == best_by_the_rule(options, baseline, drop)
    assert chosen == choose(options[::-1], baseline=baseline, drop=drop)
    assert fits(chosen.accuracy, baseline=baseline, drop=drop)


def test_every_small_case() -> None:
    latencies, accuracies, sizes = (1.0, 1.1, 1.2), (0.98, 0.99, 1.0), (1, 2)
    kinds = list(itertools.product(latencies, accuracies, sizes))
    base = Option("base", 5.0, 0.99, 3)
    for first, second in itertools.product(kinds, repeat=2):
        options = [base, Option("a", *first), Option("b", *second)]
        assert choose(options, baseline=0.99, drop=0.005) == best_by_the_rule(options, 0.99, 0.005)


@pytest.mark.parametrize(
    ("slower", "more_accurate", "expected"),
    [(1.09, True, "slow"), (1.09, False, "fast"), (1.11, True, "fast")],
)
def test_within_ten_percent_the_more_accurate_wins(slower: float, more_accurate: bool, expected: str) -> None:
    options = [Option("fast", 1.0, 0.95, 10), Option("slow", slower, 0.96 if more_accurate else 0.95, 20)]
    assert choose(options, baseline=0.95, drop=0.0).name == expected


def test_a_faster_one_beyond_the_drop_is_passed_over() -> None:
    options = [Option("fp32", 3.0, 0.98, 30), Option("pruned", 1.0, 0.97, 10), Option("int8", 2.0, 0.978, 20)]
    assert choose(options, baseline=0.98, drop=0.005).name == "int8"


def test_exactly_the_drop_is_allowed_though_floats_round() -> None:
    assert fits(0.1 + 0.2 - 0.1, baseline=0.3, drop=0.1)
    assert fits(177 / 180, baseline=178 / 180, drop=1 / 180)
    assert not fits(176 / 180, baseline=178 / 180, drop=1 / 180)


def test_no_candidate_that_fits_is_an_error() -> None:
    with pytest.raises(ValueError, match="no candidate"):
        choose([Option("a", 1.0, 0.5, 1)], baseline=0.9, drop=0.1)


@pytest.mark.parametrize(("num", "drop"), [(40, 1 / 40), (200, 0.005), (10_000, 0.005), (0, 1.0)])
def test_the_default_drop_is_half_a_point_or_one_image(num: int, drop: float) -> None:
    assert allowed_drop(None, num) == pytest.approx(drop)
    assert allowed_drop(0.02, num) == 0.02


def test_where_speed_and_accuracy_tie_the_least_changed_is_the_safest() -> None:
    options = [
        Option("int8-pruned-50", 1.0, 0.99, 10, 0.5),
        Option("int8", 1.09, 0.99, 20),
        Option("fp32", 1.09, 0.99, 80),
    ]
    assert choose(options, baseline=0.99, drop=0.005).name == "int8"
