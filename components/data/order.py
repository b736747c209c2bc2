"""The sample stream: which sample is seen at which position, as a pure function of the seed.

Samples are numbered in the order in which they lie in the shards; a shard is a *block*. In each epoch the blocks are
shuffled, every `WINDOW_BLOCKS` of them form a *window*, and the samples of a window are shuffled among themselves. So
shards are read in sequence, a few at a time, and position in the stream is all the state there is. (The samples lie
class-mixed in the shards already: preprocess deals them out by hash.)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from components.data.hashing import hash64

WINDOW_BLOCKS = 8
"""Shards that are open at once: half a gigabyte at the default shard size."""

# What a hash is for, so that two uses never share their bits.
_BLOCKS, _SAMPLES = 0x0B10C, 0x5A3B1E


def block_order(seed: int, epoch: int, num_blocks: int) -> NDArray[np.int64]:
    """Blocks in the order of their use in that epoch: int64[num_blocks], a permutation."""
    return np.argsort(hash64(_BLOCKS, seed, epoch, np.arange(num_blocks)), kind="stable")


def sample_order(
    seed: int, epoch: int, block_sizes: Sequence[int], *, window: int = WINDOW_BLOCKS
) -> NDArray[np.int64]:
    """All samples in the order of one epoch: int64[sum(block_sizes)], a permutation."""
    order = EpochOrder(seed, epoch, tuple(block_sizes), window)
    return order.samples(0, order.num_samples)


@dataclass(frozen=True)
class EpochOrder:
    """The order of one epoch, worked out window by window as positions are asked for."""

    seed: int
    epoch: int
    block_sizes: tuple[int, ...]
    window: int = WINDOW_BLOCKS

    @property
    def num_samples(self) -> int:
        return sum(self.block_sizes)

    @cached_property
    def windows(self) -> tuple[tuple[int, ...], ...]:
        """Window → its blocks, in the order of use."""
        blocks = block_order(self.seed, self.epoch, len(self.block_sizes)).tolist()
        return tuple(tuple(blocks[i : i + self.window]) for i in range(0, len(blocks), self.window))

    @cached_property
    def bounds(self) -> NDArray[np.int64]:
        """Window w holds the positions [bounds[w], bounds[w + 1]): int64[len(windows) + 1]."""
        sizes = [sum(self.block_sizes[block] for block in window) for window in self.windows]
        return np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])

    def window_at(self, position: int) -> int:
        """The window that holds a position of the epoch."""
        return int(np.searchsorted(self.bounds, position, side="right")) - 1

    def samples(self, start: int, stop: int) -> NDArray[np.int64]:
        """Samples at positions [start, stop) of the epoch: int64[stop - start]; touches only their windows."""
        if start >= stop:
            return np.empty(0, dtype=np.int64)
        parts = []
        for window in range(self.window_at(start), self.window_at(stop - 1) + 1):
            first = int(self.bounds[window])
            parts.append(self._window_samples(window)[max(start - first, 0) : stop - first])
        return np.concatenate(parts)

    @cached_property
    def _block_starts(self) -> NDArray[np.int64]:
        return np.concatenate([[0], np.cumsum(self.block_sizes, dtype=np.int64)])

    @cached_property
    def _cache(self) -> dict[int, NDArray[np.int64]]:
        return {}

    def _window_samples(self, window: int) -> NDArray[np.int64]:
        if window not in self._cache:
            while len(self._cache) > 1:  # a batch spans two windows at most often
                self._cache.pop(next(iter(self._cache)))
            starts, sizes = self._block_starts, self.block_sizes
            ids = np.concatenate(
                [np.arange(starts[block], starts[block] + sizes[block]) for block in self.windows[window]]
            )
            self._cache[window] = ids[np.argsort(hash64(_SAMPLES, self.seed, self.epoch, ids), kind="stable")]
        return self._cache[window]


@dataclass(frozen=True)
class SampleStream:
    """Epochs back to back, cut into global batches; an epoch's incomplete last batch is left out."""

    seed: int
    block_sizes: tuple[int, ...]
    global_batch: int
    window: int = WINDOW_BLOCKS

    @property
    def batch_size(self) -> int:
        """Samples in a global batch: all samples where there are fewer than `global_batch`."""
        return min(self.global_batch, sum(self.block_sizes))

    @property
    def steps_per_epoch(self) -> int:
        return sum(self.block_sizes) // self.batch_size if self.batch_size else 0

    def at(self, step: int) -> tuple[int, int]:
        """Epoch of a step, and the position within that epoch at which its global batch begins."""
        epoch, step_in_epoch = divmod(step, self.steps_per_epoch)
        return epoch, step_in_epoch * self.batch_size

    def epoch(self, epoch: int) -> EpochOrder:
        """The order of one epoch; the latest is kept."""
        if self._epochs.get("order") is None or self._epochs["order"].epoch != epoch:
            self._epochs["order"] = EpochOrder(self.seed, epoch, self.block_sizes, self.window)
        return self._epochs["order"]

    def batch(
        self, step: int, rank: int = 0, world_size: int = 1
    ) -> tuple[int, NDArray[np.int64], NDArray[np.int64]]:
        """What `rank` sees at a step: epoch, positions within the epoch int64[n], samples int64[n]."""
        epoch, first = self.at(step)
        start, stop = rank_slice(self.batch_size, rank, world_size)
        positions = np.arange(first + start, first + stop)
        return epoch, positions, self.epoch(epoch).samples(first + start, first + stop)

    @cached_property
    def _epochs(self) -> dict[str, EpochOrder]:
        return {}


def rank_slice(batch_size: int, rank: int, world_size: int) -> tuple[int, int]:
    """The contiguous part [start, stop) of a global batch that a rank takes; may be empty for tiny batches."""
    return batch_size * rank // world_size, batch_size * (rank + 1) // world_size
