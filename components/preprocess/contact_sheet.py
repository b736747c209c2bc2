"""A picture of a few training images of each class, as stored: what a person looks at first."""

import io
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from components.preprocess.manifest import Images

PER_CLASS = 8
MAX_CLASSES = 40
CELL = 72
GAP = 6
LABEL_WIDTH = 190
BACKGROUND, INK, FAINT = (255, 255, 255), (30, 30, 30), (120, 120, 120)


def choose_samples(images: Images, num_classes: int) -> dict[int, list[int]]:
    """Class → the numbers of its first training images."""
    training = np.flatnonzero(images.split == 0)
    return {
        label: training[images.label[training] == label][:PER_CLASS].tolist()
        for label in range(min(num_classes, MAX_CLASSES))
    }


def draw_sheet(
    classes: Sequence[str],
    counts: Sequence[int],
    samples: Mapping[int, Sequence[int]],
    files: Mapping[int, bytes],
) -> bytes:
    """A PNG with a row for each class. `files` holds the stored file of each sample."""
    more = len(classes) - len(samples)
    height = GAP + len(samples) * (CELL + GAP) + (24 if more > 0 else 0)
    sheet = Image.new("RGB", (LABEL_WIDTH + PER_CLASS * (CELL + GAP) + GAP, height), BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    name_font, count_font = ImageFont.load_default(15), ImageFont.load_default(12)
    for row, (label, numbers) in enumerate(samples.items()):
        top = GAP + row * (CELL + GAP)
        draw.text((GAP + 4, top + 16), _shorten(classes[label]), INK, name_font)
        draw.text((GAP + 4, top + 38), f"{counts[label]} for training", FAINT, count_font)
        for column, number in enumerate(numbers):
            cell = _cell(_pixels(files[number]))
            left = LABEL_WIDTH + column * (CELL + GAP)
            sheet.paste(cell, (left + (CELL - cell.width) // 2, top + (CELL - cell.height) // 2))
    if more > 0:
        draw.text((GAP + 4, height - 22), f"and {more} more classes", FAINT, count_font)
    sink = io.BytesIO()
    sheet.save(sink, "PNG", compress_level=6)
    return sink.getvalue()


def _pixels(file: bytes) -> NDArray[np.uint8]:
    if file.startswith(b"\x93NUMPY"):
        pixels: NDArray[np.uint8] = np.load(io.BytesIO(file))
        return pixels
    with Image.open(io.BytesIO(file)) as image:
        return np.asarray(image)


def _cell(pixels: NDArray[np.uint8]) -> Image.Image:
    image = Image.fromarray(pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels).convert(
        "RGB"
    )
    scale = CELL / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    # Pixels of tiny images stay visible as squares.
    return image.resize(size, Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS)


def _shorten(name: str, most: int = 22) -> str:
    return name if len(name) <= most else name[: most - 1] + "…"
