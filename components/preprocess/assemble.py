"""From converted images to shards: images come in the order of the packs and leave in the order of the shards."""

import mmap
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
import pyarrow as pa

from components.common.blobs import Blobs
from components.common.errors import StepError
from components.common.pool import Crashed, CrashPool
from components.common.progress import Task
from components.data.index import SCHEMA, SampleFormat
from components.data.shards import Sample, write_shard
from components.preprocess.convert import Chunk, Converted
from components.preprocess.deal import Shard
from components.preprocess.geometry import Geometry
from components.preprocess.manifest import Images
from components.preprocess.packs import read_chunks


class Spool:
    """Converted images on this disk, in the order in which they came; and what was learned about them."""

    def __init__(self, images: Images, folder: Path, keep: Collection[int]) -> None:
        self.images = images
        self.folder = folder
        self.height = np.zeros(len(images), dtype=np.int32)
        self.width = np.zeros(len(images), dtype=np.int32)
        self.sums: list[int] = []
        self.squares: list[int] = []
        self.num_pixels = 0
        self.kept: dict[int, bytes] = {}
        """Image → its file, for the images that were to be kept."""
        self._keep = frozenset(keep)
        self._offset = np.zeros(len(images), dtype=np.int64)
        self._length = np.zeros(len(images), dtype=np.int64)
        self._file: IO[bytes] | None = None

    @contextmanager
    def round(self) -> Iterator[None]:
        """Begin with an empty spool; it is gone afterwards."""
        path = self.folder / "spool"
        try:
            with path.open("w+b") as self._file:
                yield
        finally:
            self._file = None
            path.unlink(missing_ok=True)

    def add(self, part: Converted) -> None:
        assert self._file is not None
        start = self._file.tell()
        self._file.write(part.payload)
        ends = np.cumsum(part.lengths)
        self._offset[part.images] = start + ends - part.lengths
        self._length[part.images] = part.lengths
        self.height[part.images], self.width[part.images] = part.heights, part.widths
        self.sums = [a + b for a, b in zip(self.sums or [0] * len(part.sums), part.sums, strict=True)]
        self.squares = [
            a + b for a, b in zip(self.squares or [0] * len(part.squares), part.squares, strict=True)
        ]
        self.num_pixels += part.num_pixels

    @contextmanager
    def files(self) -> Iterator[memoryview]:
        """All that was added in this round."""
        assert self._file is not None
        self._file.flush()
        with mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ) as mapped, memoryview(mapped) as view:
            yield view

    def samples(self, view: memoryview, shard: Shard) -> Iterator[Sample]:
        """The shard's samples, in order."""
        images = self.images
        for number in range(shard.start, shard.stop):
            offset = int(self._offset[number])
            payload = view[offset : offset + int(self._length[number])]
            if number in self._keep:
                self.kept[number] = bytes(payload)
            yield Sample(images.key[number].decode(), int(images.label[number]), payload)


def convert_round(
    spool: Spool,
    shards: Sequence[Shard],
    pool: CrashPool[Chunk, Converted],
    blobs: Blobs,
    task: Task,
) -> None:
    """Read the packs, and convert in the pool's processes every image that the shards hold."""
    wanted = np.concatenate([np.arange(shard.start, shard.stop) for shard in shards])
    for result in pool.map(read_chunks(spool.images, wanted, blobs)):
        if isinstance(result, Crashed):
            sources = result.task.sources
            raise StepError(
                "a worker died while it converted images that ingest had accepted",
                where=f"between {sources[0]} and {sources[-1]}",
                found=result.cause,
                todo="if memory ran out, set preprocess.num_workers lower",
            )
        spool.add(result)
        task.advance(len(result.images))


def write_round(
    spool: Spool, shards: Sequence[Shard], geometry: Geometry, blobs: Blobs
) -> Iterator[tuple[Shard, str, int, list[tuple[int, int]]]]:
    """Write and store each shard: shard, digest, size in bytes, and where each image's file lies in it."""
    path = spool.folder / "shard.tar"
    with spool.files() as view:
        for shard in shards:
            places = write_shard(path, spool.samples(view, shard), geometry.format(shard.split))
            digest, size = blobs.put(path)
            path.unlink()
            yield shard, digest, size, places


def index_table(
    spool: Spool, shard: Shard, digest: str, size: int, places: list[tuple[int, int]], extension: SampleFormat
) -> pa.Table:
    """The shard's rows of the index."""
    images, part, num = spool.images, slice(shard.start, shard.stop), len(places)
    columns = {
        "split": [shard.split] * num,
        "shard": [shard.name] * num,
        "shard_digest": [digest] * num,
        "shard_bytes": [size] * num,
        "offset": [offset for offset, _ in places],
        "length": [length for _, length in places],
        "format": [extension] * num,
        "label": images.label[part],
        "key": images.key[part].astype(np.str_).tolist(),
        "source": images.source[part],
        "height": spool.height[part],
        "width": spool.width[part],
        "group": images.group[part],
    }
    return pa.table(columns, schema=SCHEMA)
