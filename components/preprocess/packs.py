"""Reading packs in sequence, each once."""

from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from components.common.blobs import Blobs
from components.common.errors import StoreError
from components.preprocess.convert import Chunk
from components.preprocess.manifest import Images

CHUNK_IMAGES = 256
CHUNK_BYTES = 16 * 2**20


def read_chunks(images: Images, wanted: NDArray[np.int64], blobs: Blobs) -> Iterator[Chunk]:
    """The `wanted` images (their numbers) in the order in which they lie in the packs, chunk by chunk."""
    order = wanted[np.lexsort((images.offset[wanted], images.pack[wanted]))]
    for pack in np.unique(images.pack[order]).tolist():
        digest = images.packs[pack]
        members = order[images.pack[order] == pack]
        with blobs.open(digest) as stream:
            position = 0
            for part in _parts(images.length[members]):
                numbers = members[part]
                data = []
                for offset, length in zip(
                    images.offset[numbers].tolist(), images.length[numbers].tolist(), strict=True
                ):
                    _skip(stream, offset - position, digest)
                    data.append(_read(stream, length, digest))
                    position = offset + length
                yield Chunk(
                    images=numbers,
                    data=data,
                    sizes=list(
                        zip(images.height[numbers].tolist(), images.width[numbers].tolist(), strict=True)
                    ),
                    splits=images.split[numbers].tolist(),
                    sources=images.source[numbers].tolist(),
                )
            # Reading to the end is what lets the store check the digest.
            while stream.read(1 << 20):
                pass


def _parts(lengths: NDArray[np.int64]) -> Iterator[slice]:
    start, size = 0, 0
    for place, length in enumerate(lengths.tolist()):
        if place > start and (place - start >= CHUNK_IMAGES or size + length > CHUNK_BYTES):
            yield slice(start, place)
            start, size = place, 0
        size += length
    yield slice(start, len(lengths))


def _skip(stream: BinaryIO, count: int, digest: str) -> None:
    while count > 0:
        count -= len(_read(stream, min(count, 1 << 20), digest))


def _read(stream: BinaryIO, count: int, digest: str) -> bytes:
    data = stream.read(count)
    if len(data) == count:
        return data
    parts = [data]
    missing = count - len(data)
    while missing:
        data = stream.read(missing)
        if not data:
            raise StoreError(
                "a pack ends before an image that its manifest says it holds",
                where=digest,
                todo="conveyor verify says what else is damaged; ingest the source again",
            )
        parts.append(data)
        missing -= len(data)
    return b"".join(parts)
