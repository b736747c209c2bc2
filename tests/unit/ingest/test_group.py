"""Near duplicates: the banded search finds what a quadratic one finds; groups and splits outlive added data."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from components.ingest.group import assign_groups, bands, near_pairs


def same_thumbs(some: NDArray[np.int64]) -> NDArray[np.uint8]:
    return np.zeros((len(some), 192), np.uint8)


@given(st.integers(1, 7))
def test_bands_cover_the_hash(distance: int) -> None:
    covered = [bit for low, high in bands(distance) for bit in range(low, high)]
    assert covered == list(range(63))
    assert len(bands(distance)) == distance + 1


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 7), st.floats(0, 1))
def test_search_finds_what_a_quadratic_one_finds(seed: int, distance: int, share_new: float) -> None:
    rng = np.random.default_rng(seed)
    base = rng.integers(0, 2**63, 30, dtype=np.uint64)
    phash = rng.choice(base, 60)
    for _ in range(8):  # some hashes a few bits away from each other
        flips = rng.random(60) < 0.4
        phash[flips] ^= np.uint64(1) << rng.integers(0, 63, int(flips.sum()), dtype=np.uint64)
    is_new = rng.random(60) < share_new
    found = near_pairs(phash, same_thumbs, distance, is_new)
    wanted = [
        (a, b)
        for a in range(60)
        for b in range(a + 1, 60)
        if (is_new[a] or is_new[b]) and np.bitwise_count(phash[a] ^ phash[b]) <= distance
    ]
    assert [tuple(pair) for pair in found.tolist()] == wanted


def test_thumbnails_have_the_last_word() -> None:
    phash = np.zeros(3, np.uint64)
    thumbs = np.zeros((3, 192), np.uint8)
    thumbs[1] += 40  # brighter, else the same
    thumbs[2, :96] += 60  # another picture
    pairs = near_pairs(phash, lambda some: thumbs[some], 4, np.ones(3, np.bool_))
    assert pairs.tolist() == [[0, 1]]


def test_many_equal_hashes_stay_linear() -> None:
    """Blank scans: each is compared with some others, and all end in one group."""
    num = 20_000
    pairs = near_pairs(np.zeros(num, np.uint64), same_thumbs, 4, np.ones(num, np.bool_))
    assert len(pairs) <= num * 16
    new = np.ones(num, np.bool_)
    grouped = assign_groups(np.arange(num), np.zeros(num, np.int64), np.full(num, -1, np.int8), new, pairs)
    assert len(set(grouped.group.tolist())) == 1


def call(
    new: str, pairs: list[tuple[int, int]], splits: list[int]
) -> tuple[list[int], list[int], list[bool]]:
    """`new`: n for a newcomer, o for an old image (of group 100 + its place)."""
    num = len(new)
    is_new = np.array([c == "n" for c in new])
    grouped = assign_groups(
        np.arange(num, dtype=np.int64),
        np.arange(num, dtype=np.int64) + 100,
        np.array(splits, np.int8),
        is_new,
        np.array(pairs, np.int64).reshape(-1, 2),
    )
    return grouped.group.tolist(), grouped.split.tolist(), grouped.bridge.tolist()


def test_newcomers_form_groups() -> None:
    assert call("nnnn", [(0, 1), (1, 3)], [-1] * 4) == ([0, 0, 2, 0], [-1] * 4, [False] * 4)


def test_newcomers_join_the_group_that_they_touch() -> None:
    assert call("onn", [(0, 1), (1, 2)], [2, -1, -1]) == ([100] * 3, [2, 2, 2], [False] * 3)


def test_a_bridge_between_two_splits_is_held_out() -> None:
    group, split, bridge = call("oonnn", [(0, 2), (1, 2), (2, 3)], [0, 2, -1, -1, -1])
    assert (group[:2], split[:2]) == ([100, 101], [0, 2])
    assert bridge == [False, False, True, True, False]


def test_old_images_do_not_connect_newcomers() -> None:
    # 2 touches train only, 3 touches train and test: only 3 is a bridge.
    _, split, bridge = call("oonn", [(0, 2), (0, 3), (1, 3)], [0, 2, -1, -1])
    assert bridge == [False, False, False, True]
    assert split[2] == 0
