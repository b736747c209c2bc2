"""What an image looks like, in few bytes and in integer arithmetic: the same on every machine.

The perceptual hash is the DCT hash of Zauner (2010, "Implementation and benchmarking of perceptual image hash
functions"): a 32×32 grey picture, its 8×8 lowest frequencies without the constant, each compared with their median.
All sums are of integers that float64 holds exactly, so neither the BLAS nor the processor changes a bit.
"""

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from components.ingest.pixels import Pixels

HASH_SIDE = 32
THUMB_SIDE = 8
THUMB_BYTES = THUMB_SIDE * THUMB_SIDE * 3
SMALL_SIDE = 64
WEIGHT_ONE = 1 << 12
# Rec. 601 luma in 1/256: 77 + 150 + 29.
LUMA = np.array([77.0, 150.0, 29.0])


@dataclass
class Features:
    """Of n images."""

    phash: NDArray[np.uint64]
    """(n,)."""
    thumb: NDArray[np.uint8]
    """(n, 192): 8×8 RGB."""
    grey: NDArray[np.bool_]
    """(n,): red = green = blue everywhere."""
    digest: list[bytes]
    """16 bytes each, of shape and pixels."""


def compute_features(images: Sequence[Pixels]) -> Features:
    """Hash, thumbnail, greyness and digest of uint8 (height, width, 3) images; vectorised over equal shapes."""
    num = len(images)
    out = Features(
        np.zeros(num, np.uint64), np.zeros((num, THUMB_BYTES), np.uint8), np.zeros(num, np.bool_), [b""] * num
    )
    by_shape: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for i, image in enumerate(images):
        out.digest[i] = pixel_digest(image)
        by_shape[image.shape].append(i)
    for shape, where in by_shape.items():
        if max(shape[:2]) <= SMALL_SIDE:
            stack = np.stack([images[i] for i in where])
            _fill(out, where, stack)
        else:
            for i in where:
                out.grey[i] = _is_grey(images[i])
                _fill(out, [i], _shrink(images[i])[None], grey_known=True)
    return out


def pixel_digest(image: Pixels) -> bytes:
    """16 bytes: two images have the same exactly when every pixel is the same."""
    hasher = hashlib.blake2b(digest_size=16)
    hasher.update(b"%d %d " % image.shape[:2])
    hasher.update(np.ascontiguousarray(image).data)
    return hasher.digest()


def _fill(out: Features, where: list[int], stack: Pixels, *, grey_known: bool = False) -> None:
    """`stack`: (n, height, width, 3), of at most 64 pixels a side."""
    if not grey_known:
        out.grey[where] = _is_grey(stack)
    planes = stack.astype(np.float64)
    luma = np.floor(planes @ LUMA / 256.0)
    out.phash[where] = perceptual_hash(_resample(luma, HASH_SIDE))
    small = _resample(planes.transpose(0, 3, 1, 2), THUMB_SIDE)
    out.thumb[where] = small.transpose(0, 2, 3, 1).reshape(len(where), THUMB_BYTES).astype(np.uint8)


def _is_grey(pixels: Pixels) -> NDArray[np.bool_]:
    """Over the last three axes."""
    first = pixels[..., 0]
    same = (first == pixels[..., 1]) & (first == pixels[..., 2])
    result: NDArray[np.bool_] = same.all(axis=(-2, -1))
    return result


def _shrink(image: Pixels) -> Pixels:
    """A large image to 64×64, by Pillow's box filter, which computes in integers."""
    from PIL import Image

    return np.asarray(Image.fromarray(image).resize((SMALL_SIDE, SMALL_SIDE), Image.Resampling.BOX))


def _resample(planes: NDArray[np.float64], side: int) -> NDArray[np.float64]:
    """(…, height, width) integers → (…, side, side), each the floor of the mean of its box."""
    height, width = planes.shape[-2:]
    rows, columns = _box(height, side), _box(width, side)
    mean: NDArray[np.float64] = np.floor((rows @ planes @ columns.T) / float(WEIGHT_ONE * WEIGHT_ONE))
    return mean


@cache
def _box(size: int, side: int) -> NDArray[np.float64]:
    """(side, size) integer weights that sum to `WEIGHT_ONE`: how much of each pixel lies in each box."""
    edges = np.arange(side + 1, dtype=np.float64) * (size / side)
    pixels = np.arange(size, dtype=np.float64)
    low = np.maximum(edges[:-1, None], pixels)
    high = np.minimum(edges[1:, None], pixels + 1)
    weights: NDArray[np.float64] = np.rint(np.maximum(high - low, 0.0) * (side / size) * WEIGHT_ONE)
    # What rounding lost goes to the heaviest pixel.
    weights[np.arange(side), weights.argmax(axis=1)] += WEIGHT_ONE - weights.sum(axis=1)
    return weights


@cache
def _dct() -> NDArray[np.float64]:
    """(8, 32): the lowest rows of the DCT-II, in integers."""
    k, x = np.arange(8)[:, None], np.arange(HASH_SIDE)[None, :]
    rows: NDArray[np.float64] = np.rint(np.cos(np.pi * k * (2 * x + 1) / (2 * HASH_SIDE)) * (1 << 12))
    return rows


def perceptual_hash(grey: NDArray[np.float64]) -> NDArray[np.uint64]:
    """(n, 32, 32) integers 0…255 → (n,) uint64; bit 63 (the constant) is always 0."""
    dct = _dct()
    low = (dct @ grey @ dct.T).reshape(len(grey), 64)[:, 1:]
    bits = low > np.median(low, axis=1, keepdims=True)
    padded = np.concatenate([np.zeros((len(grey), 1), np.bool_), bits], axis=1)
    packed: NDArray[np.uint64] = np.packbits(padded, axis=1).view(">u8").ravel().astype(np.uint64)
    return packed
