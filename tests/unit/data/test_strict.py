"""What counts as a sound image."""

import io
import pickle
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

from components.data.strict import BadImageError, ImageInfo, check_image


def encode(mode: str, fmt: str, size: tuple[int, int] = (64, 48), **options: Any) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(stream, fmt, **options)
    return stream.getvalue()


def reason(data: bytes, **options: int) -> str:
    with pytest.raises(BadImageError) as caught:
        check_image(data, **options)
    assert caught.value.detail
    return caught.value.reason


@pytest.mark.parametrize(
    ("mode", "fmt"),
    [
        ("RGB", "JPEG"),
        ("L", "JPEG"),
        ("CMYK", "JPEG"),
        ("RGB", "PNG"),
        ("L", "PNG"),
        ("P", "PNG"),
        ("1", "PNG"),
        ("RGBA", "PNG"),
        ("RGB", "BMP"),
        ("RGB", "TIFF"),
        ("RGB", "WEBP"),
    ],
)
def test_sound_images_pass(mode: str, fmt: str) -> None:
    assert check_image(encode(mode, fmt)) == ImageInfo(fmt.lower(), 64, 48)


@pytest.mark.parametrize("options", [{"progressive": True}, {"quality": 20}, {"subsampling": 0}])
def test_kinds_of_jpeg_pass(options: dict[str, Any]) -> None:
    assert check_image(encode("RGB", "JPEG", **options)).format == "jpeg"


@pytest.mark.parametrize("fmt", ["JPEG", "PNG", "BMP", "TIFF"])
@pytest.mark.parametrize("lost", [2, 500])
def test_a_cut_file_is_truncated(fmt: str, lost: int) -> None:
    assert reason(encode("RGB", fmt)[:-lost]) == "truncated"


@pytest.mark.parametrize("fmt", ["JPEG", "PNG"])
def test_damage_in_mid_stream_is_found(fmt: str) -> None:
    data = bytearray(encode("RGB", fmt))
    middle = len(data) // 2
    data[middle] ^= 0x55
    data[middle + 1] ^= 0xFF
    assert reason(bytes(data)) == "corrupt"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "empty"),
        (b"hello, I am no image" * 9, "not_an_image"),
        (b"GIF89a" + bytes(99), "unsupported_format"),
        (b"\xff\xd8\xff\xe0", "truncated"),
        (b"\x89PNG\r\n\x1a\n", "truncated"),
        (b"\x89PNG\r\n\x1a\n" + bytes(99), "corrupt"),
    ],
)
def test_what_is_no_image(data: bytes, expected: str) -> None:
    assert reason(data) == expected


def test_sizes_are_checked_before_anything_is_decoded() -> None:
    assert reason(encode("L", "PNG"), max_pixels=64 * 48 - 1) == "too_large"
    assert reason(encode("L", "PNG", size=(64, 1)), min_side=2) == "too_small"
    # a header that promises 65,000 × 65,000 pixels, without any of them
    bomb = bytearray(encode("L", "PNG"))
    bomb[16:24] = (65_000).to_bytes(4, "big") * 2
    bomb[29:33] = zlib.crc32(bomb[12:29]).to_bytes(4, "big")
    assert reason(bytes(bomb)) == "too_large"


def test_the_error_survives_the_trip_from_a_worker() -> None:
    error = pickle.loads(pickle.dumps(BadImageError("corrupt", "a word")))  # noqa: S301 - made here
    assert (error.reason, error.detail) == ("corrupt", "a word")
