"""What a worker finds in a batch, with both decoders."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from components.ingest.check import Batch, Limits, _by_pixels, check_batch
from components.ingest.pixels import MAX_BATCH, DaliDecoder
from components.ingest.sources.folder import FolderSource
from support.images import make_image_folder, synthetic_image

LIMITS = Limits(max_pixels=100_000, max_file_bytes=200_000, min_side=4)


def encode(pixels: np.ndarray, fmt: str, mode: str = "RGB") -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(out, fmt)
    return out.getvalue()


def test_a_batch_of_everything(tmp_path: Path) -> None:
    pixels = synthetic_image(0, 0)
    files = {
        "1-good.png": encode(pixels, "PNG"),
        "2-grey.png": encode(pixels, "PNG", "L"),
        "3-cut.jpg": encode(pixels, "JPEG")[:-40],
        "4-one-bit.tiff": encode(pixels, "TIFF", "1"),  # Pillow decodes it, DALI does not
        "5-large.png": os.urandom(200_001),
        "6-changed.png": encode(pixels, "PNG"),
        "7-good.webp": encode(pixels, "WEBP"),
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    source = FolderSource(str(tmp_path))
    entries = source.list(tmp_path).entries
    with (tmp_path / "6-changed.png").open("ab") as file:
        file.write(b"more")
    found = check_batch(Batch(source, entries, LIMITS))
    assert found.reason == [None, None, "truncated", "dali_refused", "too_large", "changed", None]
    assert [bool(data) for data in found.data] == [True, True, False, False, False, False, True]
    assert found.grey.tolist() == [False, True, False, False, False, False, False]
    assert found.size[0].tolist() == [32, 32, len(files["1-good.png"])]
    assert [digest is None for digest in found.digest] == [False, False, False, False, True, True, False]
    assert found.fatal is None


@pytest.mark.parametrize(
    ("fmt", "mode"),
    [
        *(("PNG", mode) for mode in ("1", "L", "LA", "P", "RGB", "RGBA")),
        *(("JPEG", mode) for mode in ("L", "RGB", "CMYK")),
        *(("BMP", mode) for mode in ("1", "L", "P", "RGB")),
        *(("TIFF", mode) for mode in ("L", "RGB", "RGBA", "CMYK")),
        *(("WEBP", mode) for mode in ("RGB", "RGBA")),
    ],
)
def test_dali_sees_what_pillow_sees(fmt: str, mode: str) -> None:
    data = encode(synthetic_image(1, 1), fmt, mode)
    (pixels,) = DaliDecoder().decode([data])
    with Image.open(io.BytesIO(data)) as image:
        expected = np.asarray(image.convert("RGB"))
    assert not isinstance(pixels, str), pixels
    assert np.array_equal(pixels, expected)


def test_dali_names_the_culprits_of_a_batch(tmp_path: Path) -> None:
    make_image_folder(tmp_path, per_class=10)
    batch = [path.read_bytes() for path in sorted(tmp_path.rglob("*.jpg"))]
    for i in (4, 5, 29):
        batch[i] = b"no image at all, and no other file"
    decoder = DaliDecoder()
    for _ in range(2):  # it goes on after a refusal
        found = decoder.decode(batch)
        assert [i for i, pixels in enumerate(found) if isinstance(pixels, str)] == [4, 5, 29]


def test_few_pixels_are_decoded_at_once() -> None:
    size = np.array([[4000, 4000, 1]] * 5 + [[10, 10, 1]] * 600)
    runs = list(_by_pixels(list(range(605)), size))
    assert [i for run in runs for i in run] == list(range(605))
    assert max(len(run) for run in runs) == MAX_BATCH
    assert max(int((size[run, 0] * size[run, 1]).sum()) for run in runs) <= 33 * 2**20
