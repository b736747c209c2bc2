"""The promise of the whole: as data is added, no image moves, and no two near duplicates stand in two splits."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from components.ingest.group import assign_groups
from components.ingest.split import assign_splits

NUM = 60
HELD = 9
EDGES = st.lists(st.tuples(st.integers(0, NUM - 1), st.integers(0, NUM - 1)), max_size=50)
ARRIVALS = st.lists(st.integers(0, 3), min_size=NUM, max_size=NUM)


@settings(max_examples=200, deadline=None)
@given(EDGES, ARRIVALS, st.integers(0, 3), st.integers(0, 2**32))
def test_snapshots_follow_each_other(
    edges: list[tuple[int, int]], arrives: list[int], seed: int, order: int
) -> None:
    """`edges`: which images are near each other; `arrives`: in which of four ingests each is first seen."""
    rng = np.random.default_rng(7)
    ident = rng.integers(0, 2**62, NUM)
    label = rng.integers(0, 4, NUM).astype(np.int32)
    first = np.array(arrives)
    group = np.zeros(NUM, np.int64)
    split = np.full(NUM, -1, np.int8)
    for step in range(4):
        seen = np.flatnonzero((first <= step) & (split != HELD))
        np.random.default_rng(order).shuffle(seen)  # in whatever order they are met
        place = {image: i for i, image in enumerate(seen.tolist())}
        is_new = split[seen] < 0
        pairs = [sorted((place[a], place[b])) for a, b in edges if a != b and a in place and b in place]
        pairs = [pair for pair in pairs if is_new[pair].any()]
        before = split.copy()
        grouped = assign_groups(
            ident[seen], group[seen], split[seen], is_new, np.array(pairs, np.int64).reshape(-1, 2)
        )
        free = ~grouped.bridge
        split[seen[grouped.bridge]] = HELD
        group[seen] = grouped.group
        split[seen[free]] = assign_splits(
            grouped.group[free],
            label[seen][free],
            grouped.split[free],
            shares=(0.6, 0.2, 0.2),
            min_per_class=1,
            seed=seed,
        )
        settled = before >= 0
        assert (split[settled] == before[settled]).all(), "no image moves"
        assert (split[first <= step] >= 0).all(), "every image has a place"
        for a, b in edges:
            both = {int(split[a]), int(split[b])} - {-1, HELD}
            assert len(both) < 2, "near duplicates never straddle"
