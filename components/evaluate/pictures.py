"""Small pictures of single samples, read out of the shards by range."""

import io

import numpy as np
from PIL import Image

from components.common.blobs import Blobs
from components.data.index import ShardIndex
from components.data.shards import NPY_HEADER_BYTES

MAX_SIDE = 176
SMALL_SIDE = 64
JPEG_QUALITY = 85


def picture(index: ShardIndex, row: int, blobs: Blobs, *, channels: int) -> tuple[str, bytes]:
    """Extension and file of a thumbnail: PNG, unscaled, for small images, JPEG for large ones."""
    shard = index.shards[int(index.shard[row])]
    with blobs.open(shard.digest, int(index.offset[row]), int(index.length[row])) as stream:
        payload = stream.read()
    image = _image(payload, index, row, channels)
    stream_out = io.BytesIO()
    if max(image.size) <= SMALL_SIDE:
        image.save(stream_out, "PNG", optimize=True)
        return "png", stream_out.getvalue()
    image.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.LANCZOS)
    image.save(stream_out, "JPEG", quality=JPEG_QUALITY)
    return "jpg", stream_out.getvalue()


def _image(payload: bytes, index: ShardIndex, row: int, channels: int) -> Image.Image:
    if index.format != "npy":
        image = Image.open(io.BytesIO(payload))
        return image.convert("L" if channels == 1 else "RGB")
    pixels = np.frombuffer(payload, dtype=np.uint8, offset=NPY_HEADER_BYTES)
    shape = (int(index.height[row]), int(index.width[row]), channels)
    pixels = pixels.reshape(shape)
    return Image.fromarray(pixels[..., 0] if channels == 1 else pixels)
