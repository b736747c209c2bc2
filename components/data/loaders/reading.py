"""From the order of the stream to work for a backend: samples read from shards, with their plan."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from components.data.augment import Augmentation, Plan, central_crops, plan
from components.data.cache import ShardReader
from components.data.index import ShardIndex
from components.data.loaders.batch import Work
from components.data.order import SampleStream
from components.data.shards import NPY_HEADER_BYTES

Ints = NDArray[np.int64]


class SampleReader:
    """Samples of a split, out of shards that a `ShardReader` provides."""

    def __init__(self, index: ShardIndex, shards: ShardReader, *, image_size: int, channels: int) -> None:
        self._index, self._shards = index, shards
        self._size, self._channels = image_size, channels
        raw = index.format == "npy"
        self.encoded = not raw
        self.exact = raw and bool((index.height == image_size).all() and (index.width == image_size).all())
        """All samples are pixels of the size that the model sees."""

    def enter(self, window: int) -> None:
        self._shards.enter(window)

    def read(self, samples: Ints) -> list[NDArray[np.uint8]] | NDArray[np.uint8]:
        """Encoded bytes, or pixels uint8 HWC; one array [n, S, S, C] where the split is `exact`."""
        return self._read_exact(samples) if self.exact else self._read_each(samples)

    def _read_exact(self, samples: Ints) -> NDArray[np.uint8]:
        """Samples of one size lie in a shard at one stride, so that a batch takes one gather a shard."""
        length = self._size * self._size * self._channels
        out = np.empty((len(samples), length), dtype=np.uint8)
        shard_of = self._index.shard[samples]
        offsets = self._index.offset[samples] + NPY_HEADER_BYTES
        for shard in np.unique(shard_of).tolist():
            rows = np.flatnonzero(shard_of == shard)
            data = self._shards.bytes_of(shard)
            first = int(offsets[rows].min())
            # Tar members begin at multiples of 512.
            starts = (offsets[rows] - first) // 512
            table = as_strided(data[first:], (int(starts.max()) + 1, length), (512, 1), writeable=False)
            out[rows] = table[starts]
        return out.reshape(len(samples), self._size, self._size, self._channels)

    def _read_each(self, samples: Ints) -> list[NDArray[np.uint8]]:
        index, copy = self._index, not self._shards.lasting
        found = []
        columns = (index.shard, index.offset, index.length, index.height, index.width)
        for shard, offset, length, height, width in zip(
            *(column[samples].tolist() for column in columns), strict=True
        ):
            data = self._shards.bytes_of(shard)[offset : offset + length]
            if not self.encoded:
                data = data[NPY_HEADER_BYTES:].reshape(height, width, self._channels)
            found.append(data.copy() if copy else data)
        return found


class StreamWindows:
    """The windows of shards that steps [start_step, stop_step) run through, in order, epochs back to back."""

    def __init__(self, stream: SampleStream, start_step: int, stop_step: int) -> None:
        self.shards: list[tuple[int, ...]] = []
        """Window → the numbers of its shards."""
        self._zero: dict[int, int] = {}
        if start_step >= stop_step:
            return
        first_epoch, first_position = stream.at(start_step)
        last_epoch, last_position = stream.at(stop_step - 1)
        whole = stream.steps_per_epoch * stream.batch_size
        for epoch in range(first_epoch, last_epoch + 1):
            order = stream.epoch(epoch)
            start = order.window_at(first_position) if epoch == first_epoch else 0
            end = last_position + stream.batch_size if epoch == last_epoch else whole
            self._zero[epoch] = len(self.shards) - start
            self.shards.extend(order.windows[start : order.window_at(end - 1) + 1])

    def number(self, epoch: int, window: int) -> int:
        """Place in `shards` of a window of an epoch."""
        return self._zero[epoch] + window


def training_work(
    reader: SampleReader,
    index: ShardIndex,
    stream: SampleStream,
    windows: StreamWindows,
    augmentation: Augmentation,
    *,
    rank: int,
    world_size: int,
    start_step: int,
    stop_step: int,
    image_size: int,
) -> Iterator[Work]:
    """One rank's share of steps [start_step, stop_step)."""
    for step in range(start_step, stop_step):
        epoch, positions, samples = stream.batch(step, rank, world_size)
        order = stream.epoch(epoch)
        part_of = np.searchsorted(order.bounds, positions, side="right") - 1
        parts = []
        for window in np.unique(part_of).tolist():
            reader.enter(windows.number(epoch, window))
            parts.append(reader.read(samples[part_of == window]))
        how = plan(
            augmentation,
            stream.seed,
            epoch,
            positions,
            index.sample_id[samples],
            index.height[samples],
            index.width[samples],
            image_size,
        )
        pixels = _join(parts)
        if isinstance(pixels, np.ndarray) and augmentation.crop == "shift":
            pixels = shift(pixels, how.crops)
        yield Work(
            samples=pixels,
            plan=how,
            labels=index.label[samples],
            positions=positions + epoch * stream.steps_per_epoch * stream.batch_size,
            indices=samples,
        )


def evaluation_windows(index: ShardIndex, start: int, stop: int) -> list[tuple[int, ...]]:
    """The shards of samples [start, stop), one a window."""
    return [(shard,) for shard in np.unique(index.shard[start:stop]).tolist()]


def evaluation_work(
    reader: SampleReader, index: ShardIndex, *, start: int, stop: int, batch_size: int, image_size: int
) -> Iterator[Work]:
    """Samples [start, stop) of the index, in order, each with its central window.

    The windows of the reader's plan are the shards of that part, one at a time (`evaluation_windows`)."""
    first_shard = int(index.shard[start]) if start < stop else 0
    for first in range(start, stop, batch_size):
        samples = np.arange(first, min(first + batch_size, stop))
        parts = []
        for shard in np.unique(index.shard[samples]).tolist():
            reader.enter(shard - first_shard)
            parts.append(reader.read(samples[index.shard[samples] == shard]))
        crops = central_crops(index.height[samples], index.width[samples], image_size)
        unchanged = Plan(crops, np.zeros(len(samples), np.bool_), np.ones((len(samples), 3), np.float32))
        yield Work(_join(parts), unchanged, index.label[samples], samples, samples)


def _join(
    parts: Sequence[list[NDArray[np.uint8]] | NDArray[np.uint8]],
) -> list[NDArray[np.uint8]] | NDArray[np.uint8]:
    if len(parts) == 1:
        return parts[0]
    arrays = [part for part in parts if isinstance(part, np.ndarray)]
    if arrays:
        return np.concatenate(arrays)
    return [sample for part in parts for sample in part]


def shift(images: NDArray[np.uint8], crops: NDArray[np.int32]) -> NDArray[np.uint8]:
    """Windows of the images' own size at any offset below it, what is uncovered mirrored (the border pixel once).

    uint8 [n, S, S, C] → the same shape.
    """
    size = images.shape[1]
    span = np.arange(size)
    rows = _mirror(crops[:, 0, None] + span, size)
    columns = _mirror(crops[:, 1, None] + span, size)
    moved: NDArray[np.uint8] = images[
        np.arange(len(images))[:, None, None], rows[:, :, None], columns[:, None, :]
    ]
    return moved


def _mirror(at: Ints, size: int) -> Ints:
    inside = np.abs(at)
    return np.where(inside >= size, 2 * (size - 1) - inside, inside)
