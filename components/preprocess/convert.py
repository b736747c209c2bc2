"""What a worker process does: decode a chunk of a pack, resize, encode for the shard."""

import io
from dataclasses import dataclass
from functools import partial

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from components.common.errors import StepError
from components.common.refs import SPLITS
from components.data.shards import npy_header
from components.data.single import decode_and_resize
from components.preprocess.geometry import Geometry


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some images of one pack."""

    images: NDArray[np.int64]
    """[n] Numbers of the images."""
    data: list[bytes]
    """[n] Their files."""
    sizes: list[tuple[int, int]]
    """[n] (height, width) as ingest saw them."""
    splits: list[int]
    """[n] Numbers of their splits."""
    sources: list[str]
    """[n] Their names, for errors."""


@dataclass(frozen=True, slots=True)
class Converted:
    """The same images as shards hold them."""

    images: NDArray[np.int64]
    payload: bytes
    """Their files, one after the other."""
    lengths: NDArray[np.int64]
    heights: NDArray[np.int32]
    widths: NDArray[np.int32]
    sums: tuple[int, ...]
    """Per channel, of the training images' pixels."""
    squares: tuple[int, ...]
    num_pixels: int


@dataclass(frozen=True, slots=True)
class Converter:
    """`converter(chunk)`: what the worker pool applies."""

    geometry: Geometry
    jpeg_quality: int

    def __call__(self, chunk: Chunk) -> Converted:
        geometry = self.geometry
        arrays = self._decode(chunk)
        files = [
            self._encode(array, geometry.format(SPLITS[split]))
            for array, split in zip(arrays, chunk.splits, strict=True)
        ]
        training = [array for array, split in zip(arrays, chunk.splits, strict=True) if split == 0]
        sums, squares, num_pixels = channel_sums(training, geometry.channels)
        return Converted(
            images=chunk.images,
            payload=b"".join(files),
            lengths=np.array([len(file) for file in files], dtype=np.int64),
            heights=np.array([array.shape[0] for array in arrays], dtype=np.int32),
            widths=np.array([array.shape[1] for array in arrays], dtype=np.int32),
            sums=sums,
            squares=squares,
            num_pixels=num_pixels,
        )

    def _decode(self, chunk: Chunk) -> list[NDArray[np.uint8]]:
        geometry = self.geometry
        decode = partial(
            decode_and_resize,
            stored_size=geometry.stored_size,
            image_size=geometry.image_size,
            channels=geometry.channels,
        )
        try:
            return decode(chunk.data, sizes=chunk.sizes)
        except RuntimeError as error:
            for source, data in zip(chunk.sources, chunk.data, strict=True):
                try:
                    decode([data], sizes=[(1, 1)])
                except RuntimeError as cause:
                    raise StepError(
                        "an image that ingest had accepted cannot be decoded",
                        where=source,
                        found=str(cause).strip().splitlines()[-1],
                        todo="ingest the source again: it checks every image with the DALI that is installed now",
                    ) from None
            raise StepError("DALI failed on images that it decodes one by one", found=str(error)) from None

    def _encode(self, pixels: NDArray[np.uint8], extension: str) -> bytes:
        if extension == "npy":
            return npy_header(pixels.shape) + pixels.tobytes()
        grey = pixels.shape[2] == 1
        if extension == "jpg":
            encoded: bytes = simplejpeg.encode_jpeg(
                pixels,
                quality=self.jpeg_quality,
                colorspace="GRAY" if grey else "RGB",
                colorsubsampling="Gray" if grey else "420",
                fastdct=False,
            )
            return encoded
        sink = io.BytesIO()
        Image.fromarray(pixels[..., 0] if grey else pixels).save(sink, "PNG", compress_level=1)
        return sink.getvalue()


def channel_sums(
    arrays: list[NDArray[np.uint8]], channels: int
) -> tuple[tuple[int, ...], tuple[int, ...], int]:
    """Sum and sum of squares per channel, and the number of pixels: exact, so that their order does not matter."""
    if not arrays:
        return (0,) * channels, (0,) * channels, 0
    same = len({array.shape for array in arrays}) == 1
    stacks = [np.stack(arrays)] if same and arrays[0].size < 1 << 16 else arrays
    sums, squares, num_pixels = np.zeros(channels), np.zeros(channels), 0
    for stack in stacks:
        # Integers below 2**53 are exact in float64, whatever order they are added in.
        planes = np.ascontiguousarray(stack.reshape(-1, channels).T).astype(np.float64)
        sums += planes.sum(axis=1)
        squares += np.einsum("cp,cp->c", planes, planes)
        num_pixels += planes.shape[1]
    return tuple(int(value) for value in sums), tuple(int(value) for value in squares), num_pixels
