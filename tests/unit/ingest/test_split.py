"""Splits: shares are met, groups never straddle, order never matters, and what is settled stays."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from components.ingest.split import TEST, TRAIN, VAL, assign_splits, hash_groups

SHARES = (0.8, 0.1, 0.1)


def split(
    group: NDArray[np.int64],
    label: NDArray[np.int32],
    inherited: NDArray[np.int8] | None = None,
    seed: int = 0,
) -> NDArray[np.int8]:
    if inherited is None:
        inherited = np.full(len(group), -1, np.int8)
    return assign_splits(group, label, inherited, shares=SHARES, min_per_class=1, seed=seed)


def numbers(num: int, seed: int = 0) -> NDArray[np.int64]:
    return np.random.default_rng(seed).integers(0, 2**62, num)


@pytest.mark.parametrize("per_class", [10, 20, 100, 181])
def test_shares_are_met_in_each_class(per_class: int) -> None:
    label = np.repeat(np.arange(4, dtype=np.int32), per_class)
    found = split(numbers(len(label)), label)
    for its_class in range(4):
        counts = np.bincount(found[label == its_class], minlength=3)
        assert abs(counts[VAL] - per_class / 10) <= 1
        assert abs(counts[TEST] - per_class / 10) <= 1


@pytest.mark.parametrize(("num", "counts"), [(1, [1, 0, 0]), (2, [1, 0, 1]), (3, [1, 1, 1]), (5, [3, 1, 1])])
def test_tiny_classes_get_a_minimum(num: int, counts: list[int]) -> None:
    found = split(numbers(num), np.zeros(num, np.int32))
    assert np.bincount(found, minlength=3).tolist() == counts


def test_another_seed_is_another_split() -> None:
    label = np.zeros(200, np.int32)
    assert (split(numbers(200), label) != split(numbers(200), label, seed=1)).sum() > 20


def test_hashes_are_the_committed_ones() -> None:
    """Committed: another hash would move every image of every new data set."""
    assert hash_groups(np.array([0, 1, 2**62], np.int64), 0).tolist() == HASHES


HASHES = [0.6524484863740322, 0.03401170130434639, 0.9810574185844778]

GROUPS = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 3)), min_size=1, max_size=120)


@settings(max_examples=100, deadline=None)
@given(GROUPS, st.integers(0, 5), st.randoms(use_true_random=False))
def test_groups_never_straddle_and_order_never_matters(
    images: list[tuple[int, int]], seed: int, rng: object
) -> None:
    group = np.array([g for g, _ in images], np.int64)
    label = np.array([c for _, c in images], np.int32)
    found = split(group, label, seed=seed)
    assert set(found.tolist()) <= {TRAIN, VAL, TEST}
    for g in set(group.tolist()):
        assert len(set(found[group == g].tolist())) == 1
    order = np.random.default_rng(seed).permutation(len(group))
    assert (split(group[order], label[order], seed=seed) == found[order]).all()


@settings(max_examples=100, deadline=None)
@given(GROUPS, GROUPS, GROUPS)
def test_adding_data_never_moves_an_image(
    first: list[tuple[int, int]], second: list[tuple[int, int]], third: list[tuple[int, int]]
) -> None:
    """In steps, as snapshots follow each other; a known group's newcomers inherit, as `assign_groups` sees to."""
    group = np.zeros(0, np.int64)
    label = np.zeros(0, np.int32)
    settled = np.zeros(0, np.int8)
    for added in (first, second, third):
        place = dict(zip(group.tolist(), settled.tolist(), strict=True))
        group = np.r_[group, np.array([g for g, _ in added], np.int64)]
        label = np.r_[label, np.array([c for _, c in added], np.int32)]
        inherited = np.r_[settled, np.array([place.get(g, -1) for g, _ in added], np.int8)].astype(np.int8)
        found = split(group, label, inherited)
        assert (found[: len(settled)] == settled).all()
        for g in set(group.tolist()):
            assert len(set(found[group == g].tolist())) == 1
        settled = found


@settings(max_examples=100, deadline=None)
@given(GROUPS)
def test_a_class_that_trains_has_something_to_train_on(images: list[tuple[int, int]]) -> None:
    # Each image its own group.
    label = np.array([c for _, c in images], np.int32)
    found = split(numbers(len(images)), label)
    for its_class in set(label.tolist()):
        assert (found[label == its_class] == TRAIN).any()
