"""The sample order: a permutation in each epoch, the same however it is asked for."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.data.order import EpochOrder, SampleStream, block_order, rank_slice, sample_order

BLOCKS = st.lists(st.integers(0, 9), min_size=1, max_size=12).filter(lambda sizes: sum(sizes) > 0)


def test_golden_order() -> None:
    assert sample_order(0, 0, [4, 4, 4], window=2).tolist() == GOLDEN_0
    assert sample_order(0, 1, [4, 4, 4], window=2).tolist() == GOLDEN_1
    assert sample_order(1, 0, [3, 5, 2, 4]).tolist() == GOLDEN_2


GOLDEN_0: list[int] = [2, 7, 4, 5, 1, 0, 6, 3, 11, 10, 8, 9]
GOLDEN_1: list[int] = [2, 7, 1, 3, 6, 0, 4, 5, 10, 11, 8, 9]
GOLDEN_2: list[int] = [3, 7, 8, 2, 13, 12, 9, 11, 5, 6, 0, 4, 10, 1]


@given(BLOCKS, st.integers(0, 5), st.integers(0, 5), st.integers(1, 5))
def test_every_epoch_is_a_permutation(sizes: list[int], seed: int, epoch: int, window: int) -> None:
    order = sample_order(seed, epoch, sizes, window=window)
    assert sorted(order.tolist()) == list(range(sum(sizes)))


@given(BLOCKS, st.integers(1, 5), st.data())
def test_any_part_equals_the_whole(sizes: list[int], window: int, data: st.DataObject) -> None:
    total = sum(sizes)
    start = data.draw(st.integers(0, total))
    stop = data.draw(st.integers(start, total))
    part = EpochOrder(5, 2, tuple(sizes), window).samples(start, stop)
    assert part.tolist() == sample_order(5, 2, sizes, window=window)[start:stop].tolist()


@given(BLOCKS, st.integers(1, 5))
def test_shards_are_read_in_sequence(sizes: list[int], window: int) -> None:
    """Samples of a window come from its blocks only, and no block is in two windows."""
    order = EpochOrder(3, 1, tuple(sizes), window)
    block_of = np.repeat(np.arange(len(sizes)), sizes)
    samples = order.samples(0, order.num_samples)
    for number, blocks in enumerate(order.windows):
        assert len(blocks) <= window
        part = samples[order.bounds[number] : order.bounds[number + 1]]
        assert set(block_of[part].tolist()) <= set(blocks)
    assert sorted(block for blocks in order.windows for block in blocks) == list(range(len(sizes)))


def test_epochs_and_seeds_differ() -> None:
    orders = {tuple(sample_order(seed, epoch, [50, 50])) for seed in range(3) for epoch in range(3)}
    assert len(orders) == 9
    assert len({tuple(block_order(0, epoch, 20)) for epoch in range(10)}) == 10


def test_first_places_are_evenly_taken() -> None:
    first = [int(sample_order(0, epoch, [10, 10])[0]) for epoch in range(4000)]
    counts = np.bincount(first, minlength=20)
    # Chi-square with 19 degrees of freedom: 43.8 is its 99.9 % point.
    assert ((counts - 200) ** 2 / 200).sum() < 43.8


@pytest.mark.parametrize("world_size", [1, 2, 3, 8])
@given(sizes=BLOCKS, global_batch=st.integers(1, 20))
def test_ranks_together_see_the_global_batch(world_size: int, sizes: list[int], global_batch: int) -> None:
    stream = SampleStream(4, tuple(sizes), global_batch, window=3)
    for step in range(2 * stream.steps_per_epoch):
        epoch, positions, samples = stream.batch(step)
        parts = [
            SampleStream(4, tuple(sizes), global_batch, window=3).batch(step, rank, world_size)
            for rank in range(world_size)
        ]
        assert [part[0] for part in parts] == [epoch] * world_size
        assert np.concatenate([part[1] for part in parts]).tolist() == positions.tolist()
        assert np.concatenate([part[2] for part in parts]).tolist() == samples.tolist()
        assert len(samples) == stream.batch_size


@given(BLOCKS, st.integers(1, 20), st.integers(0, 30))
def test_a_resumed_stream_goes_on(sizes: list[int], global_batch: int, step: int) -> None:
    running = SampleStream(9, tuple(sizes), global_batch)
    for before in range(step):
        running.batch(before)
    fresh = SampleStream(9, tuple(sizes), global_batch)
    assert running.batch(step)[2].tolist() == fresh.batch(step)[2].tolist()


def test_no_sample_twice_in_an_epoch() -> None:
    stream = SampleStream(0, (7, 8, 9), 5)
    assert stream.steps_per_epoch == 4
    seen = np.concatenate([stream.batch(step)[2] for step in range(4)])
    assert len(set(seen.tolist())) == 20


def test_tiny_batches_leave_ranks_empty() -> None:
    slices = [rank_slice(3, rank, 8) for rank in range(8)]
    assert [stop - start for start, stop in slices] == [0, 0, 1, 0, 0, 1, 0, 1]


def test_a_batch_larger_than_the_split_is_the_split() -> None:
    stream = SampleStream(0, (4, 3), 100)
    assert stream.batch_size == 7
    assert stream.steps_per_epoch == 1
    assert sorted(stream.batch(5)[2].tolist()) == list(range(7))
