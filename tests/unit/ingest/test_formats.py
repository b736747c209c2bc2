"""Strict checks: whatever an encoder writes passes, whatever was touched afterwards does not."""

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from components.data.strict import ADAM7, BadImageError, check_png, check_whole, read_size, sniff
from components.ingest.check import Limits, check_strictly

LIMITS = Limits(max_pixels=10_000, max_file_bytes=1 << 20, min_side=4)


def picture(mode: str = "RGB", size: tuple[int, int] = (17, 11)) -> Image.Image:
    rng = np.random.default_rng(1)
    return Image.fromarray(rng.integers(0, 255, (size[1], size[0], 3), np.uint8)).convert(mode)


def encode(fmt: str, mode: str = "RGB", size: tuple[int, int] = (17, 11), **options: object) -> bytes:
    out = io.BytesIO()
    picture(mode, size).save(out, fmt, **options)
    return out.getvalue()


def reason_of(name: str, data: bytes) -> str | None:
    try:
        check_strictly(name, data, LIMITS)
    except BadImageError as bad:
        return bad.reason
    return None


@pytest.mark.parametrize(
    ("fmt", "mode"),
    [("PNG", m) for m in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")]
    + [("JPEG", m) for m in ("L", "RGB", "CMYK")]
    + [("WEBP", "RGB"), ("WEBP", "RGBA"), ("BMP", "RGB"), ("BMP", "L"), ("TIFF", "RGB"), ("TIFF", "L")],
)
def test_what_an_encoder_writes_is_whole(fmt: str, mode: str) -> None:
    data = encode(fmt, mode)
    kind = sniff(data)
    assert kind == fmt.lower()
    assert read_size(data, kind) == (11, 17)
    check_whole(data, kind, 10_000)


def test_progressive_jpeg_is_whole() -> None:
    check_whole(encode("JPEG", progressive=True), "jpeg", 10_000)


def interlaced_png() -> bytes:
    """Pillow writes none."""
    pixels = np.asarray(picture("RGB", (13, 10)))
    raw = b""
    for x, y, dx, dy in ADAM7:
        for row in pixels[y::dy, x::dx]:
            if row.size:
                raw += b"\0" + row.tobytes()

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 13, 10, 8, 2, 0, 0, 1)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(raw))
        + chunk(b"IEND", b"")
    )


def test_interlaced_png_is_whole() -> None:
    data = interlaced_png()
    with Image.open(io.BytesIO(data)) as image:
        assert np.array_equal(np.asarray(image), np.asarray(picture("RGB", (13, 10))))
    check_png(data)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_changed_byte_of_a_png_is_found(data: st.DataObject) -> None:
    good = encode("PNG")
    where = data.draw(st.integers(8, len(good) - 1))
    flip = data.draw(st.integers(1, 255))
    bad = bytearray(good)
    bad[where] ^= flip
    with pytest.raises(BadImageError):
        check_png(bytes(bad))


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(["PNG", "JPEG"]), st.floats(0.05, 0.99))
def test_a_cut_file_is_found(fmt: str, share: float) -> None:
    good = encode(fmt, size=(40, 30))
    assert reason_of(f"x.{fmt.lower()}", good[: int(len(good) * share)]) == "truncated"


def test_png_with_more_or_less_data_than_announced() -> None:
    good = encode("PNG", "L")
    header = bytearray(good[16:29])
    for height, reason in ((12, "truncated"), (10, "corrupt")):
        header[4:8] = struct.pack(">I", height)
        crc = struct.pack(">I", zlib.crc32(b"IHDR" + bytes(header)))
        with pytest.raises(BadImageError) as caught:
            check_png(good[:16] + bytes(header) + crc + good[33:])
        assert caught.value.reason == reason


def test_jpeg_damaged_in_the_middle() -> None:
    good = bytearray(encode("JPEG", size=(64, 64), quality=95))
    good[len(good) // 2 : len(good) // 2 + 8] = b"\xff\xd9\xff\xd0\x00\x01\x02\x03"
    assert reason_of("x.jpg", bytes(good)) in {"corrupt", "truncated"}


def test_reasons() -> None:
    assert reason_of("x.png", b"") == "empty"
    assert reason_of("x.png", b"just text, no image") == "not_an_image"
    assert reason_of("x.jpg", encode("PNG")) == "wrong_extension"
    assert reason_of("x.gif", encode("GIF", "P")) == "unsupported_format"
    assert reason_of("x.avif", encode("AVIF")) == "unsupported_format"
    assert reason_of("x.png", encode("PNG", size=(1, 1))) == "too_small"
    assert reason_of("x.png", encode("PNG", size=(200, 60))) == "too_large"
    assert reason_of("x", encode("PNG")) is None, "no extension is no lie"
    assert reason_of("x.JPEG", encode("JPEG")) is None


def test_a_huge_image_is_refused_by_its_header_alone() -> None:
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    crc = struct.pack(">I", zlib.crc32(b"IHDR" + header))
    assert reason_of("x.png", b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR" + header + crc) == "too_large"
