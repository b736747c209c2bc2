"""Near duplicates are kept together: a search that is not quadratic, and groups that outlive added data."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

HASH_BITS = 63  # of the 64 one is always 0
MAX_NEIGHBOURS = 1000
MAX_EQUAL = 16
# Differences of two 8×8 RGB thumbnails, in grey levels and but for their brightness, that a re-encoded, resized or
# brightened copy keeps below. On the digits 63 pairs of different images agree in their hash within 4 bits; the
# nearest of their thumbnails differ by 9.5.
MAX_MEAN_DIFFERENCE = 5
MAX_DIFFERENCE = 28
CHUNK = 1 << 16

Thumbs = Callable[[NDArray[np.int64]], NDArray[np.uint8]]
Pairs = NDArray[np.int64]


def near_pairs(phash: NDArray[np.uint64], thumbs: Thumbs, distance: int, is_new: NDArray[np.bool_]) -> Pairs:
    """(m, 2) positions of near duplicates, each pair once, lower first, where at least one of the two is new.

    Near means at most `distance` differing bits, and thumbnails that agree: a hash of 63 bits alone throws small or
    plain images together. Two hashes within d bits agree in one of d + 1 bands of bits (pigeonhole), so only hashes
    that share a band are compared; in a crowded band, each with its next `MAX_NEIGHBOURS` in order. Of images with one
    and the same hash, each is compared with `MAX_EQUAL` others: a thousand blank scans must not make a million pairs.
    """
    if distance == 0 or len(phash) < 2 or not is_new.any():
        return np.zeros((0, 2), np.int64)
    unique, where = np.unique(phash, return_inverse=True)
    order = np.argsort(where, kind="stable")
    starts = np.searchsorted(where[order], np.arange(len(unique) + 1))
    close = np.unique(
        np.concatenate([_band_pairs(unique, *band, distance) for band in bands(distance)]), axis=0
    )
    members = [order[starts[i] : starts[i + 1]] for i in np.unique(close).tolist()]
    member_of = dict(zip(np.unique(close).tolist(), members, strict=True))
    found = [_equal_pairs(order, where[order])]
    for one, other in close.tolist():
        a, b = member_of[one], member_of[other]
        found.extend((_product(a, b[:MAX_EQUAL]), _product(b[MAX_EQUAL:], a[:MAX_EQUAL])))
    pairs = np.concatenate(found)
    pairs = np.sort(pairs[is_new[pairs].any(axis=1)], axis=1)
    keep = [_similar(thumbs(some[:, 0]), thumbs(some[:, 1])) for some in _chunks(pairs)]
    return np.unique(pairs[np.concatenate(keep)], axis=0) if keep else pairs


def _equal_pairs(order: NDArray[np.int64], ordered: NDArray[np.int64]) -> Pairs:
    """Each image with the next `MAX_EQUAL` of the same hash."""
    found = []
    for step in range(1, MAX_EQUAL + 1):
        same = np.flatnonzero(ordered[step:] == ordered[:-step])
        found.append(np.stack([order[same], order[same + step]], axis=1))
    return np.concatenate(found)


def _product(a: NDArray[np.int64], b: NDArray[np.int64]) -> Pairs:
    return np.stack([np.repeat(a, len(b)), np.tile(b, len(a))], axis=1)


def bands(distance: int) -> list[tuple[int, int]]:
    """`distance` + 1 bit ranges [low, high) that cover the hash."""
    edges = [HASH_BITS * i // (distance + 1) for i in range(distance + 2)]
    return list(pairwise(edges))


def _band_pairs(hashes: NDArray[np.uint64], low: int, high: int, distance: int) -> Pairs:
    """Pairs of different hashes that agree in the bits [low, high) and differ in at most `distance` of all."""
    band = (hashes >> np.uint64(low)) & np.uint64((1 << (high - low)) - 1)
    order = np.lexsort((hashes, band))
    ordered = band[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    ends = np.repeat(np.r_[starts[1:], len(ordered)], np.diff(np.r_[starts, len(ordered)]))
    found = [np.zeros((0, 2), np.int64)]
    here = np.arange(len(ordered))
    for step in range(1, MAX_NEIGHBOURS + 1):
        here = here[here + step < ends[here]]
        if not len(here):
            break
        a, b = order[here], order[here + step]
        near = np.bitwise_count(hashes[a] ^ hashes[b]) <= distance
        found.append(np.stack([np.minimum(a[near], b[near]), np.maximum(a[near], b[near])], axis=1))
    return np.concatenate(found)


def _similar(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> NDArray[np.bool_]:
    signed = a.astype(np.int32) - b
    # In integers, multiplied by the length: no rounding decides.
    length = signed.shape[1]
    difference = np.abs(signed * length - signed.sum(axis=1, keepdims=True))
    same: NDArray[np.bool_] = (difference.max(axis=1) <= MAX_DIFFERENCE * length) & (
        difference.sum(axis=1) <= MAX_MEAN_DIFFERENCE * length * length
    )
    return same


def _chunks(pairs: Pairs) -> list[Pairs]:
    return [pairs[i : i + CHUNK] for i in range(0, len(pairs), CHUNK)]


@dataclass
class Grouped:
    """Of n images."""

    group: NDArray[np.int64]
    """(n,): near duplicates share a number, which never changes."""
    split: NDArray[np.int8]
    """(n,): the inherited split, -1 where there is none yet."""
    bridge: NDArray[np.bool_]
    """(n,): newcomers that stand between groups of two splits."""


def assign_groups(
    ident: NDArray[np.int64],
    old_group: NDArray[np.int64],
    old_split: NDArray[np.int8],
    is_new: NDArray[np.bool_],
    pairs: Pairs,
) -> Grouped:
    """Old images keep their group and split; newcomers that are near each other stay together.

    Such a set of newcomers joins the old groups that it touches, if these lie in one split. If they lie in several,
    all of the set is a bridge: whatever split it got, it would leak into another. Old images never connect two sets of
    newcomers, since they stand already where they stand. `ident` are numbers that depend on the content alone; a new
    group is called by its smallest.
    """
    touching = is_new[pairs].all(axis=1)
    root = _components(len(ident), pairs[touching])
    group = np.where(is_new, ident, old_group)
    split = np.where(is_new, np.int8(-1), old_split)
    smallest = np.full(len(ident), np.iinfo(np.int64).max)
    np.minimum.at(smallest, root[is_new], ident[is_new])
    group[is_new] = smallest[root[is_new]]

    # Edges between a newcomer and an old image that is in a split.
    mixed = pairs[~touching]
    newcomer = np.where(is_new[mixed[:, 0]], mixed[:, 0], mixed[:, 1])
    old = np.where(is_new[mixed[:, 0]], mixed[:, 1], mixed[:, 0])
    anchored = old_split[old] >= 0
    joined: dict[int, set[tuple[int, int]]] = {}
    for set_root, its_split, its_group in zip(
        root[newcomer[anchored]], old_split[old[anchored]], old_group[old[anchored]], strict=True
    ):
        joined.setdefault(int(set_root), set()).add((int(its_split), int(its_group)))
    bridge = np.zeros(len(ident), np.bool_)
    new = np.flatnonzero(is_new)
    new = new[np.argsort(root[new], kind="stable")]
    root_of_new = root[new]
    for set_root, anchors in joined.items():
        low, high = np.searchsorted(root_of_new, [set_root, set_root + 1])
        members = new[low:high]
        if len({its_split for its_split, _ in anchors}) > 1:
            bridge[members] = True
            continue
        split[members] = next(iter(anchors))[0]
        group[members] = min(its_group for _, its_group in anchors)
    return Grouped(group, split, bridge)


def _components(num: int, pairs: Pairs) -> NDArray[np.int64]:
    """The smallest position of each one's connected component: hooking and pointer jumping (Shiloach and Vishkin,
    1982), in few rounds over whole arrays."""
    root = np.arange(num)
    while True:
        a, b = root[pairs[:, 0]], root[pairs[:, 1]]
        apart = a != b
        if not apart.any():
            return root
        np.minimum.at(root, np.maximum(a, b)[apart], np.minimum(a, b)[apart])
        while (root[root] != root).any():
            root = root[root]
