"""Which image goes into which shard, decided before any is decoded."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from components.common.refs import SPLITS, Split
from components.common.tar import BLOCK
from components.data.shards import NPY_HEADER_BYTES
from components.data.single import MAX_ASPECT
from components.preprocess.geometry import Geometry
from components.preprocess.manifest import Images

# Bytes of a stored pixel, for images that compress as photographs do.
BYTES_PER_PIXEL = {"npy": 1.0, "jpg": 0.22, "png": 0.6}


@dataclass(frozen=True, slots=True)
class Shard:
    """A shard to be: images [start, stop) of all, and about how many bytes they will take."""

    split: Split
    name: str
    start: int
    stop: int
    size_bytes: int


def deal(images: Images, geometry: Geometry, shard_bytes: int) -> list[Shard]:
    """Shards of nearly equal numbers of images, some `shard_bytes` large, for each split that has images."""
    sizes = stored_bytes(images, geometry)
    shards = []
    for number, split in enumerate(SPLITS):
        start, stop = np.searchsorted(images.split, [number, number + 1]).tolist()
        total = int(sizes[start:stop].sum())
        num_shards = min(max(1, -(-total // shard_bytes)), stop - start)
        for shard in range(num_shards):
            first = start + (stop - start) * shard // num_shards
            last = start + (stop - start) * (shard + 1) // num_shards
            name = f"shards/{split}-{shard:05d}.tar"
            shards.append(Shard(split, name, first, last, int(sizes[first:last].sum())))
    return shards


def stored_bytes(images: Images, geometry: Geometry) -> NDArray[np.int64]:
    """About how many bytes each image will take in its tar."""
    if geometry.square:
        pixels = np.full(len(images), geometry.image_size**2, dtype=np.float64)
    else:
        shorter, longer = np.minimum(images.height, images.width), np.maximum(images.height, images.width)
        pixels = geometry.stored_size**2 * np.minimum(longer / shorter, MAX_ASPECT)
    each = [BYTES_PER_PIXEL[geometry.format(split)] for split in SPLITS]
    payload: NDArray[np.int64] = (pixels * geometry.channels * np.array(each)[images.split]).astype(np.int64)
    if geometry.raw:
        payload += NPY_HEADER_BYTES
    # Two headers, the label's block, and padding.
    return (payload + BLOCK - 1) // BLOCK * BLOCK + 3 * BLOCK


def rounds(shards: Sequence[Shard], scratch_bytes: int) -> Iterator[list[Shard]]:
    """Consecutive shards that fit on the disk together, at least one at a time."""
    now: list[Shard] = []
    used = 0
    for shard in shards:
        if now and used + shard.size_bytes > scratch_bytes:
            yield now
            now, used = [], 0
        now.append(shard)
        used += shard.size_bytes
    if now:
        yield now
