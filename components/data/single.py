"""Images outside a data set, treated exactly as preprocess and evaluation treat theirs.

`conveyor predict` comes through here, and so do the two of them: on the original images of the test split, prediction
equals evaluation to the last bit.
"""

import io
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from components.data.augment import central_crops
from components.data.loaders.batch import normalise

Pixels = NDArray[np.uint8]

MAX_ASPECT = 4
"""A banner of 20 by 9,000 pixels would be stored as 256 by 115,000."""
MAX_BATCH = 256
MAX_BATCH_PIXELS = 24_000_000
"""Decoded at once; a single image may be larger."""


def decode_and_resize(
    encoded: Sequence[bytes],
    *,
    stored_size: int,
    image_size: int,
    channels: int,
    sizes: Sequence[tuple[int, int]] | None = None,
) -> list[Pixels]:
    """Encoded images → uint8 [height, width, channels] each, as shards store them.

    Where `stored_size` equals `image_size` the image is resized to that square; otherwise its shorter side becomes
    `stored_size` and the aspect is kept, of the central part where one side is more than `MAX_ASPECT` times the other.
    DALI decodes (turned as EXIF says, alpha dropped) and resizes (triangular
    filter, antialiased). `sizes` are (height, width) of each, read from the headers if None. The result for an image
    does not depend on the others. Raises `RuntimeError` with DALI's words for an image that it cannot decode.
    """
    decoder = _decoder(stored_size, stored_size == image_size, channels)
    if sizes is None:
        sizes = [_header_size(data) for data in encoded]
    found: list[Pixels] = []
    for start, stop in _batches(sizes):
        found.extend(decoder.run(encoded[start:stop]))
    return found


def evaluation_view(
    arrays: Sequence[Pixels], *, image_size: int, mean: tuple[float, ...], std: tuple[float, ...]
) -> NDArray[np.float32]:
    """Stored images → what a network sees in evaluation: float32 [n, channels, image_size, image_size].

    The central square, normalised. `arrays` come from `decode_and_resize` or from lossless shards.
    """
    heights = np.array([array.shape[0] for array in arrays])
    widths = np.array([array.shape[1] for array in arrays])
    crops = central_crops(heights, widths, image_size).tolist()
    windows = [
        array[top : top + height, left : left + width]
        for array, (top, left, height, width) in zip(arrays, crops, strict=True)
    ]
    return normalise(np.stack(windows), mean, std)


class _Decoder:
    """A DALI pipeline that is built once a process and fed batch by batch."""

    def __init__(self, size: int, square: bool, channels: int) -> None:
        self._how = (size, square, channels)
        self._pipe: Any = None
        self._batch: list[NDArray[np.uint8]] = []

    def run(self, encoded: Sequence[bytes]) -> list[Pixels]:
        if self._pipe is None:
            self._pipe = self._build(*self._how)
        self._batch = [np.frombuffer(data, np.uint8) for data in encoded]
        try:
            (images,) = self._pipe.run()
        except RuntimeError:
            self._pipe = None  # one bad image ends a pipeline
            raise
        return [np.array(images.at(place)) for place in range(len(encoded))]

    def _build(self, size: int, square: bool, channels: int) -> Any:
        from nvidia.dali import fn, types
        from nvidia.dali.pipeline import Pipeline

        pipe = Pipeline(batch_size=MAX_BATCH, num_threads=1, device_id=None, prefetch_queue_depth=1)
        with pipe:
            encoded = fn.external_source(source=lambda: self._batch, batch=True, dtype=types.UINT8, ndim=1)
            images = fn.decoders.image(
                encoded,
                device="cpu",
                output_type=types.RGB if channels == 3 else types.GRAY,
                jpeg_fancy_upsampling=True,
            )
            target = {"size": [size, size]} if square else {"resize_shorter": size, **_central_part(images)}
            images = fn.resize(images, interp_type=types.INTERP_LINEAR, antialias=True, **target)
            pipe.set_outputs(images)
        pipe.build()
        return pipe


def _central_part(images: Any) -> dict[str, Any]:
    """Arguments that keep `fn.resize` to the part whose sides are at most `MAX_ASPECT` apart."""
    from nvidia.dali import fn, math, types

    shape = images.shape(dtype=types.FLOAT)
    height, width = shape[0], shape[1]
    part = fn.stack(math.min(height, MAX_ASPECT * width), math.min(width, MAX_ASPECT * height))
    start = math.floor((fn.stack(height, width) - part) / 2)
    return {"roi_start": start, "roi_end": start + part}


@lru_cache(maxsize=4)
def _decoder(size: int, square: bool, channels: int) -> _Decoder:
    return _Decoder(size, square, channels)


def _header_size(data: bytes) -> tuple[int, int]:
    with Image.open(io.BytesIO(data)) as image:
        return image.height, image.width


def _batches(sizes: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Consecutive parts [start, stop) that are few and small enough to be decoded at once."""
    start, pixels = 0, 0
    for place, (height, width) in enumerate(sizes):
        area = height * width
        if place > start and (place - start >= MAX_BATCH or pixels + area > MAX_BATCH_PIXELS):
            yield start, place
            start, pixels = place, 0
        pixels += area
    if start < len(sizes):
        yield start, len(sizes)
