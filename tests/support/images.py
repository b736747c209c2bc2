"""Small synthetic image folders: deterministic, learnable, and without near duplicates."""

import colorsys
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

Size = tuple[int, int]


def make_image_folder(
    path: Path,
    *,
    classes: int = 3,
    per_class: int = 20,
    size: Size | tuple[Size, Size] = (32, 32),
    colour: bool = True,
    fmt: Literal["jpeg", "png"] = "jpeg",
    seed: int = 0,
) -> Path:
    """Write `path/class_<c>/<i>.jpg` (or .png) and return `path`.

    `size` is (height, width), or ((low, low), (high, high)) for mixed sizes drawn between the two, both included.
    A class is told by the direction and width of its stripes and, with `colour`, by its hue. The same arguments give
    the same files.
    """
    suffix = "jpg" if fmt == "jpeg" else "png"
    for c in range(classes):
        folder = path / f"class_{c}"
        folder.mkdir(parents=True, exist_ok=True)
        for i in range(per_class):
            pixels = synthetic_image(c, i, classes=classes, size=size, colour=colour, seed=seed)
            target = folder / f"{i:04d}.{suffix}"
            if fmt == "jpeg":
                Image.fromarray(pixels).save(target, "JPEG", quality=92)
            else:
                Image.fromarray(pixels).save(target, "PNG")
    return path


def synthetic_image(
    label: int,
    index: int,
    *,
    classes: int = 3,
    size: Size | tuple[Size, Size] = (32, 32),
    colour: bool = True,
    seed: int = 0,
) -> np.ndarray:
    """One image: uint8, (height, width, 3) with `colour`, (height, width) without."""
    rng = np.random.default_rng((seed, label, index))
    height, width = _draw_size(size, rng)
    y, x = np.mgrid[0:height, 0:width] / max(height, width)
    angle = np.pi * label / classes + rng.normal(0, 0.06)
    frequency = 2.0 + 1.5 * (label % 3) + rng.normal(0, 0.1)
    stripes = np.sin(2 * np.pi * (frequency * (x * np.cos(angle) + y * np.sin(angle)) + rng.random()))
    # Coarse random light keeps perceptual hashes of one class far apart.
    light = Image.fromarray(rng.random((5, 5)).astype(np.float32)).resize(
        (width, height), Image.Resampling.BICUBIC
    )
    grey = 0.5 + 0.22 * stripes + 0.5 * (np.asarray(light) - 0.5) + rng.normal(0, 0.03, (height, width))
    if not colour:
        return _to_bytes(grey)
    hue = (label / classes + rng.normal(0, 0.02)) % 1.0
    tint = np.array(colorsys.hsv_to_rgb(hue, 0.6, 1.0))
    return _to_bytes(grey[..., None] * tint + rng.normal(0, 0.02, (height, width, 3)))


def _draw_size(size: Size | tuple[Size, Size], rng: np.random.Generator) -> Size:
    low, high = size
    if isinstance(low, int) and isinstance(high, int):
        return low, high
    assert isinstance(low, tuple)
    assert isinstance(high, tuple)
    return int(rng.integers(low[0], high[0] + 1)), int(rng.integers(low[1], high[1] + 1))


def _to_bytes(values: np.ndarray) -> np.ndarray:
    clipped: np.ndarray = (np.clip(values, 0.0, 1.0) * 255).astype(np.uint8)
    return clipped
