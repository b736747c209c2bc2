"""Counter-based random numbers: fixed for ever, and even enough."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.data.hashing import below, hash64, uniform


def test_splitmix64_is_the_published_one() -> None:
    # The first outputs of splitmix64 from the seed 1234567 (Vigna's reference implementation).
    golden = 0x9E3779B97F4A7C15
    from components.data.hashing import _mix

    states = np.array([(1234567 + golden * i) % 2**64 for i in range(5)], dtype=np.uint64)
    expected = [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]
    assert _mix(states).tolist() == expected


def test_golden_words() -> None:
    assert [hex(value) for value in hash64(1, 2, np.arange(3)).tolist()] == GOLDEN


GOLDEN: list[str] = ["0xf88ed945105f9739", "0x5cdcd779c4c725d0", "0x81c5fa7f0f47ec82"]


def test_order_and_number_of_words_matter() -> None:
    values = {int(hash64(*words)) for words in ((), (0,), (0, 0), (1, 2), (2, 1), (1,), (1, 2, 0))}
    assert len(values) == 7


def test_negative_and_huge_seeds_are_words_too() -> None:
    assert hash64(-1) == hash64(2**64 - 1)
    assert hash64(np.array([-1]))[0] == hash64(-1)
    assert hash64(2**64 + 5) == hash64(5)


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=20), st.integers(0, 2**64 - 1))
def test_one_at_a_time_equals_all_at_once(words: list[int], seed: int) -> None:
    together = hash64(seed, np.array(words))
    assert together.tolist() == [int(hash64(seed, word)) for word in words]


def test_uniform_is_even() -> None:
    values = uniform(hash64(7, np.arange(100_000)))
    assert values.min() >= 0
    assert values.max() < 1
    counts = np.histogram(values, bins=20, range=(0, 1))[0]
    # Chi-square with 19 degrees of freedom: 43.8 is its 99.9 % point.
    assert ((counts - 5000) ** 2 / 5000).sum() < 43.8


@pytest.mark.parametrize("bound", [1, 2, 7, 1000])
def test_below_stays_below(bound: int) -> None:
    values = below(hash64(3, np.arange(10_000)), bound)
    assert values.min() == 0
    assert values.max() == bound - 1


def test_uniform_never_reaches_one() -> None:
    assert uniform(np.array([2**64 - 1], dtype=np.uint64))[0] < 1
