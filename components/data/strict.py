"""Is this one encoded image whole and sound? Stricter than any training decoder (promise 5 of the design).

DALI, Pillow and browsers make the best of a damaged file, each its own best; here a decoder's warning is an error.
"""

import io
import warnings
from dataclasses import dataclass
from typing import Literal, TypeAlias

import simplejpeg
from PIL import Image, UnidentifiedImageError

Reason: TypeAlias = Literal["not_an_image", "too_large", "too_small", "truncated", "corrupt"]

MAX_PIXELS = 100_000_000
FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP", "PPM")
"""What both Pillow and DALI decode."""

PNG_BEGIN = b"\x89PNG\r\n\x1a\n"
PNG_END = b"IEND\xaeB`\x82"
JPEG_BEGIN = b"\xff\xd8\xff"
JPEG_END = b"\xff\xd9"

GREY_MODES = frozenset({"1", "L", "LA", "La", "I", "I;16", "I;16B", "F"})


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """What a sound image says about itself."""

    format: str
    """Lower case: jpeg, png, ..."""
    width: int
    height: int
    channels: Literal[1, 3]
    """1 for any grey image (alpha aside), 3 for any other."""


class BadImageError(Exception):
    """An image that cannot be used: a `reason` for counting and a `detail` for a person."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason: Reason = reason
        self.detail = detail

    def __reduce__(self) -> tuple[type["BadImageError"], tuple[Reason, str]]:
        return BadImageError, (self.reason, self.detail)


def check_image(data: bytes, *, max_pixels: int = MAX_PIXELS, min_side: int = 1) -> ImageInfo:
    """Decode `data` fully and strictly. Raises `BadImageError`; sizes are checked before anything is decoded."""
    if not data:
        raise BadImageError("not_an_image", "the file is empty")
    info = _header(data)
    if info.width * info.height > max_pixels:
        raise BadImageError(
            "too_large", f"{info.width} × {info.height} pixels, more than the {max_pixels} allowed"
        )
    if min(info.width, info.height) < min_side:
        raise BadImageError(
            "too_small", f"{info.width} × {info.height} pixels, a side of fewer than {min_side}"
        )
    if info.format == "jpeg":
        _decode_jpeg(data)
    else:
        _decode_other(data)
    return info


def _header(data: bytes) -> ImageInfo:
    try:
        with warnings.catch_warnings():
            # Our own limit decides, with our own words.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                width, height = image.size
                grey = image.mode in GREY_MODES
                name = (image.format or "").lower()
    except Image.DecompressionBombError:
        raise BadImageError("too_large", "far more pixels than any photograph has") from None
    except UnidentifiedImageError:
        if data.startswith((PNG_BEGIN, JPEG_BEGIN)):
            raise BadImageError("corrupt", "begins as an image, but its header is damaged") from None
        raise BadImageError("not_an_image", "no image format that can be read") from None
    except Exception as error:  # noqa: BLE001 - a damaged header fails in as many ways as there are formats
        raise BadImageError("corrupt", f"damaged header: {_words(error)}") from None
    # A phone's multi-picture JPEG is a JPEG with more behind it.
    return ImageInfo("jpeg" if name == "mpo" else name, width, height, 1 if grey else 3)


def _decode_jpeg(data: bytes) -> None:
    try:
        _, _, colorspace, _ = simplejpeg.decode_jpeg_header(data)
        target = {"Gray": "GRAY", "CMYK": "CMYK", "YCCK": "CMYK"}.get(colorspace, "RGB")
        simplejpeg.decode_jpeg(data, colorspace=target, strict=True)
    except ValueError as error:
        words = _words(error)
        cut = "premature end" in words.lower() or not _has_end_marker(data)
        raise BadImageError("truncated" if cut else "corrupt", words) from None


def _has_end_marker(data: bytes) -> bool:
    return JPEG_END in data[-65536:]


def _decode_other(data: bytes) -> None:
    stream = io.BytesIO(data)
    # Pillow does not look at the last chunk's checksum.
    if data.startswith(PNG_BEGIN) and PNG_END not in data:
        raise BadImageError("truncated", "the PNG file has no end")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(stream, formats=FORMATS) as image:
                image.verify()  # every PNG chunk's checksum
            stream.seek(0)
            with Image.open(stream, formats=FORMATS) as image:
                image.load()
    except Exception as error:  # noqa: BLE001 - see _header
        words = _words(error)
        cut = "truncated" in words.lower() or stream.tell() >= len(data)
        raise BadImageError("truncated" if cut else "corrupt", words) from None


def _words(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
