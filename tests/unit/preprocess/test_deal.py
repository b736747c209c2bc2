"""Which image goes into which shard: all of them, once, in shards of one split and about one size."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from components.common.refs import SPLITS
from components.preprocess.deal import deal, rounds, stored_bytes
from components.preprocess.geometry import Geometry
from components.preprocess.manifest import Images

GEOMETRIES = st.sampled_from([Geometry(28, 28, 1, raw=True), Geometry(224, 256, 3, raw=False)])


def images(counts: list[int]) -> Images:
    num = sum(counts)
    empty = np.empty(num, dtype=np.object_)
    sizes = np.arange(num) % 7 * 50 + 100
    zeros = np.zeros(num, dtype=np.int64)
    return Images(
        split=np.repeat(np.arange(3), counts).astype(np.int8),
        key=np.array([f"{n:020x}" for n in range(num)], dtype="S20"),
        pack=zeros.astype(np.int32),
        packs=("sha256:" + "0" * 64,),
        offset=zeros,
        length=zeros,
        label=zeros,
        height=sizes,
        width=sizes[::-1].copy(),
        source=empty,
        group=empty,
    )


@given(st.lists(st.integers(0, 40), min_size=3, max_size=3), GEOMETRIES, st.integers(1000, 300_000))
def test_every_image_once_in_a_shard_of_its_split(
    counts: list[int], geometry: Geometry, shard_bytes: int
) -> None:
    some = images(counts)
    shards = deal(some, geometry, shard_bytes)
    numbers = [n for shard in shards for n in range(shard.start, shard.stop)]
    assert numbers == list(range(len(some)))
    for shard in shards:
        assert shard.stop > shard.start
        assert {SPLITS[s] for s in some.split[shard.start : shard.stop].tolist()} == {shard.split}
    assert len({shard.name for shard in shards}) == len(shards)
    sizes = [shard.stop - shard.start for shard in shards if shard.split == "train"]
    assert not sizes or max(sizes) - min(sizes) <= 1


@given(st.integers(1, 60), GEOMETRIES, st.integers(1, 3_000_000))
def test_rounds_keep_the_order_and_the_bound(num: int, geometry: Geometry, scratch_bytes: int) -> None:
    shards = deal(images([num, 3, 3]), geometry, 100_000)
    parts = list(rounds(shards, scratch_bytes))
    assert [shard for part in parts for shard in part] == shards
    for part in parts:
        assert len(part) == 1 or sum(shard.size_bytes for shard in part) <= scratch_bytes


def test_raw_sizes_are_exact() -> None:
    # Two headers, 128 + 784 bytes padded to 1,024, and the label's block.
    assert stored_bytes(images([1, 1, 1]), Geometry(28, 28, 1, raw=True)).tolist() == [2560] * 3
