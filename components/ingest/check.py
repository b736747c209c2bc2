"""What a worker does: read a batch, check every image strictly and with DALI, and describe the good ones."""

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache

import numpy as np
from numpy.typing import NDArray

from components.data.strict import SUPPORTED, BadImageError, check_whole, read_size, sniff
from components.ingest.features import THUMB_BYTES, compute_features
from components.ingest.pixels import MAX_BATCH, DaliDecoder, Pixels
from components.ingest.sources.base import (
    FORMAT_BY_SUFFIX,
    ChangedError,
    DamagedError,
    Entry,
    Source,
    UnreadableError,
    suffix_of,
)

# Pixels decoded at once: some 100 MB of RGB, whatever the images' size.
MAX_DECODED_PIXELS = 32 * 2**20


@dataclass(frozen=True)
class Limits:
    """What an image must keep."""

    max_pixels: int
    max_file_bytes: int
    min_side: int


@dataclass(frozen=True)
class Batch:
    """One task of a worker."""

    source: Source
    entries: list[Entry]
    limits: Limits


@dataclass
class Checked:
    """Of the entries of a batch, in their order; `None` and zeros where an image is bad."""

    digest: list[str | None]
    """64 hex digits of the bytes; None where they could not be read."""
    reason: list[str | None]
    """Why it is quarantined; None for a good one."""
    detail: list[str]
    format: list[str | None]
    size: NDArray[np.int64]
    """(n, 3): height and width (as seen, after orientation), bytes."""
    grey: NDArray[np.bool_]
    pixels: list[str | None]
    """32 hex digits of the decoded pixels."""
    phash: NDArray[np.uint64]
    thumb: NDArray[np.uint8]
    data: list[bytes]
    """The bytes of the good ones, empty for others."""
    fatal: str | None = field(default=None)
    """A file that may not be read, and why, with a NUL between: the step ends with it."""


def blank(num: int) -> Checked:
    """Nothing known yet of `num` entries."""
    return Checked(
        digest=[None] * num,
        reason=[None] * num,
        detail=[""] * num,
        format=[None] * num,
        size=np.zeros((num, 3), np.int64),
        grey=np.zeros(num, np.bool_),
        pixels=[None] * num,
        phash=np.zeros(num, np.uint64),
        thumb=np.zeros((num, THUMB_BYTES), np.uint8),
        data=[b""] * num,
    )


def check_batch(batch: Batch) -> Checked:
    """Read, check and describe. Never raises over an image."""
    out = blank(len(batch.entries))
    good: list[int] = []
    for i, (entry, found) in enumerate(zip(batch.entries, _read_all(batch), strict=True)):
        try:
            if isinstance(found, Exception):
                raise found
            out.data[i] = data = found
            out.digest[i] = hashlib.sha256(data).hexdigest()
            out.size[i, 2] = len(data)
            out.format[i], out.size[i, 0], out.size[i, 1] = check_strictly(entry.name, data, batch.limits)
            good.append(i)
        except BadImageError as bad:
            _quarantine(out, i, bad.reason, bad.detail)
        except UnreadableError as error:
            out.fatal = f"{entry.name}\0{error}"
            return out
    for some in _by_pixels(good, out.size):
        _describe(out, some)
    return out


def _read_all(batch: Batch) -> Iterator[bytes | BadImageError | UnreadableError]:
    """Bytes of each entry, or why there are none."""
    if batch.source.parallel_reads == 1:
        yield from (_read(batch, entry) for entry in batch.entries)
        return
    with ThreadPoolExecutor(batch.source.parallel_reads) as threads:
        yield from threads.map(lambda entry: _read(batch, entry), batch.entries)


def _read(batch: Batch, entry: Entry) -> bytes | BadImageError | UnreadableError:
    if entry.size_bytes > batch.limits.max_file_bytes:
        return BadImageError("too_large", f"{entry.size_bytes} bytes, more than max_file_bytes")
    try:
        return batch.source.read(entry, batch.limits.max_file_bytes)
    except ChangedError as error:
        return BadImageError("changed", str(error))
    except DamagedError as error:
        return BadImageError("corrupt", str(error))
    except UnreadableError as error:
        return error


def check_strictly(name: str, data: bytes, limits: Limits) -> tuple[str, int, int]:
    """(format, height, width) of a flawless image. Raises `BadImageError` with the first thing that is wrong."""
    if not data:
        raise BadImageError("empty", "0 bytes")
    fmt = sniff(data)
    suffix = suffix_of(name)
    if fmt is None:
        raise BadImageError("not_an_image", "its content is of no image format that we know")
    if fmt not in SUPPORTED:
        raise BadImageError("unsupported_format", f"{fmt}; convert it to PNG, JPEG, WebP, BMP or TIFF")
    if FORMAT_BY_SUFFIX.get(suffix, fmt if not suffix else None) != fmt:
        raise BadImageError("wrong_extension", f"the name says .{suffix}, the content is {fmt}")
    height, width = read_size(data, fmt)
    if height * width > limits.max_pixels:
        raise BadImageError("too_large", f"{width}×{height} pixels, more than max_pixels {limits.max_pixels}")
    if min(height, width) < limits.min_side:
        raise BadImageError("too_small", f"{width}×{height} pixels, min_side is {limits.min_side}")
    check_whole(data, fmt, limits.max_pixels)
    return fmt, height, width


def _by_pixels(good: list[int], size: NDArray[np.int64]) -> Iterator[list[int]]:
    """Runs of images that may be decoded at once."""
    some: list[int] = []
    pixels = 0
    for i in good:
        area = int(size[i, 0] * size[i, 1])
        if some and (pixels + area > MAX_DECODED_PIXELS or len(some) == MAX_BATCH):
            yield some
            some, pixels = [], 0
        some.append(i)
        pixels += area
    if some:
        yield some


@cache
def _decoder() -> DaliDecoder:
    return DaliDecoder()


def _describe(out: Checked, some: list[int]) -> None:
    """Decode with DALI and fill in what the pixels say."""
    images: list[Pixels] = []
    kept: list[int] = []
    for i, pixels in zip(some, _decoder().decode([out.data[i] for i in some]), strict=True):
        height, width = int(out.size[i, 0]), int(out.size[i, 1])
        if isinstance(pixels, str):
            _quarantine(out, i, "dali_refused", pixels)
        elif sorted(pixels.shape[:2]) != sorted((height, width)):
            shape = f"{pixels.shape[1]}×{pixels.shape[0]}"
            _quarantine(out, i, "decoders_differ", f"{shape} by DALI, {width}×{height} by its header")
        else:
            out.size[i, :2] = pixels.shape[:2]
            images.append(pixels)
            kept.append(i)
    features = compute_features(images)
    out.grey[kept], out.phash[kept], out.thumb[kept] = features.grey, features.phash, features.thumb
    for i, digest in zip(kept, features.digest, strict=True):
        out.pixels[i] = digest.hex()


def _quarantine(out: Checked, i: int, reason: str, detail: str) -> None:
    out.reason[i], out.detail[i], out.data[i] = reason, detail, b""
