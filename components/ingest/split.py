"""Which images train, which choose, which judge: by hashing the group, so that the answer never depends on order."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

TRAIN, VAL, TEST = 0, 1, 2


def hash_groups(group: NDArray[np.int64], seed: int) -> NDArray[np.float64]:
    """A number in [0, 1) for each group (SplitMix64, Steele et al. 2014)."""
    with np.errstate(over="ignore"):
        start = _mix(np.array([seed], np.uint64))
        mixed = _mix(group.astype(np.uint64) ^ start)
    return (mixed >> np.uint64(11)).astype(np.float64) / float(1 << 53)


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def assign_splits(
    group: NDArray[np.int64],
    label: NDArray[np.int32],
    inherited: NDArray[np.int8],
    *,
    shares: Sequence[float],
    min_per_class: int,
    seed: int,
) -> NDArray[np.int8]:
    """Split of each image: TRAIN, VAL or TEST.

    `inherited` (−1 where there is none) is kept. A class that is new is cut at the quantiles of its groups' hashes, so
    that its shares are met as exactly as its groups allow; a class that is known takes newcomers by the shares
    themselves. Then val and test get `min_per_class` images each, test first, from the newcomers that hash lowest, as
    long as training keeps one. A group goes where its first class (lowest label) sends it.
    """
    split = inherited.copy()
    new = np.flatnonzero(inherited < 0)
    if not len(new):
        return split
    groups, of_image, sizes = np.unique(group[new], return_inverse=True, return_counts=True)
    first_class = np.full(len(groups), np.iinfo(np.int32).max, np.int32)
    np.minimum.at(first_class, of_image, label[new])
    hashed = hash_groups(groups, seed)
    chosen = np.zeros(len(groups), np.int8)
    _, val_share, test_share = shares
    for its_class in np.unique(first_class):
        mine = np.flatnonzero(first_class == its_class)
        mine = mine[np.lexsort((groups[mine], hashed[mine]))]
        counts = np.bincount(inherited[(label == its_class) & (inherited >= 0)], minlength=3)
        if counts.sum():
            where = hashed[mine]
        else:
            total = sizes[mine].sum()
            where = (np.cumsum(sizes[mine]) - sizes[mine] / 2) / total
        chosen[mine] = np.where(
            where < test_share, TEST, np.where(where < test_share + val_share, VAL, TRAIN)
        )
        _fill_up(chosen, mine, sizes, counts, min_per_class)
    split[new] = chosen[of_image]
    return split


def _fill_up(
    chosen: NDArray[np.int8],
    mine: NDArray[np.int64],
    sizes: NDArray[np.int64],
    inherited: NDArray[np.int64],
    least: int,
) -> None:
    """Move the newcomers of one class that hash lowest to where too few are, and one back where none trains."""
    counts = inherited.copy()
    np.add.at(counts, chosen[mine], sizes[mine])
    if counts[TRAIN] == 0:
        last = mine[-1]
        counts[chosen[last]] -= sizes[last]
        chosen[last] = TRAIN
        counts[TRAIN] += sizes[last]
    for wanted in (TEST, VAL):
        for one in mine:
            if counts[wanted] >= least:
                break
            if chosen[one] == TRAIN and counts[TRAIN] > sizes[one]:
                chosen[one] = wanted
                counts[TRAIN] -= sizes[one]
                counts[wanted] += sizes[one]
