"""The augmentation plan: every random crop, flip and colour change, as a pure function of seed, epoch and sample."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from components.common.config import StepConfig
from components.data.hashing import U64, below, hash64, uniform

SMALL_SIDE = 64
"""Up to this side images are stored raw at the size that the model sees, and shifted rather than rescaled."""

Ints: TypeAlias = NDArray[np.int64]

_AUGMENT = 0xA06
_SCALE, _RATIO, _TOP, _LEFT, _FLIP, _BRIGHTNESS, _CONTRAST, _SATURATION = range(8)
_ATTEMPTS = 10
"""Tries at a rescaled crop before the largest central one is taken, as torchvision does."""


class AugmentConfig(StepConfig):
    """How training images are varied. Unset settings are chosen from the images; there is no rotation."""

    crop: Literal["rescale", "shift", "none"] | None = None
    """`rescale`: a window of random size and aspect, resized (Inception's crop). `shift`: a window of the final size at
    a random place. `none`: the central window. Unset: `shift` for small images, else `rescale`."""
    scale: tuple[float, float] = (0.25, 1.0)
    """`rescale`: smallest and largest share of the image's area."""
    ratio: tuple[float, float] = (0.75, 4 / 3)
    """`rescale`: smallest and largest aspect (width over height); drawn evenly in its logarithm."""
    translate: float = Field(default=0.1, ge=0.0, le=0.5)
    """`shift`: how far a raw image may move, as a share of its side; what is uncovered is filled by mirroring."""
    horizontal_flip: bool | None = None
    """Mirror half of the images. Unset: for colour images only (digits and letters must not be mirrored)."""
    brightness: float | None = Field(default=None, ge=0.0, lt=1.0)
    """Largest relative change. Unset: 0.2 for large colour images, else 0; so for contrast and saturation."""
    contrast: float | None = Field(default=None, ge=0.0, lt=1.0)
    """Largest relative change of the distance from middle grey."""
    saturation: float | None = Field(default=None, ge=0.0, lt=1.0)
    """Largest relative change of the distance from the pixel's own grey; nothing for grey images."""

    @field_validator("scale", "ratio")
    @classmethod
    def _ordered(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not 0 < value[0] <= value[1]:
            raise ValueError("two positive numbers, the smaller first")
        return value

    @field_validator("scale")
    @classmethod
    def _share(cls, value: tuple[float, float]) -> tuple[float, float]:
        if value[1] > 1:
            raise ValueError("at most 1, the whole image")
        return value


@dataclass(frozen=True, slots=True)
class Augmentation:
    """`AugmentConfig` with nothing left open."""

    crop: Literal["rescale", "shift", "none"]
    scale: tuple[float, float]
    ratio: tuple[float, float]
    margin: int
    """Pixels by which a shifted window may leave the image; 0 where the image is larger than the window."""
    horizontal_flip: bool
    brightness: float
    contrast: float
    saturation: float

    @property
    def colours(self) -> bool:
        """Whether any colour is changed."""
        return bool(self.brightness or self.contrast or self.saturation)


def resolve(
    config: AugmentConfig, *, image_size: int, stored_size: int, channels: int, raw: bool
) -> Augmentation:
    """Choose what the settings leave open; sides in pixels, `raw` where pixels are stored uncompressed."""
    small = image_size <= SMALL_SIDE
    jitter = 0.2 if channels == 3 and not small else 0.0
    exact = raw and stored_size == image_size
    crop = config.crop or ("shift" if exact else "rescale")
    return Augmentation(
        crop=crop,
        scale=config.scale,
        ratio=config.ratio,
        margin=round(config.translate * image_size) if exact else 0,
        horizontal_flip=channels == 3 if config.horizontal_flip is None else config.horizontal_flip,
        brightness=jitter if config.brightness is None else config.brightness,
        contrast=jitter if config.contrast is None else config.contrast,
        saturation=0.0 if channels == 1 else jitter if config.saturation is None else config.saturation,
    )


NO_AUGMENTATION = Augmentation("none", (1.0, 1.0), (1.0, 1.0), 0, False, 0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Plan:
    """What happens to each of n images, in this order: crop, resize to the square, flip, colour."""

    crops: NDArray[np.int32]
    """[n, 4]: top, left, height, width in pixels of the stored image. Inside the image, but for `shift` with a margin,
    where a window of the final size leaves it by at most the margin."""
    flips: NDArray[np.bool_]
    """[n]"""
    colours: NDArray[np.float32]
    """[n, 3]: factors of brightness, contrast, saturation; 1 changes nothing."""


def plan(
    augmentation: Augmentation,
    seed: int,
    epoch: int,
    positions: Ints,
    sample_ids: U64,
    heights: Ints,
    widths: Ints,
    image_size: int,
) -> Plan:
    """The plan for n images; positions, sample ids, heights and widths are arrays [n].

    `positions` are those within the epoch, `sample_ids` name the images (from their digests), heights and widths are
    those of the stored images in pixels. The same words give the same plan on every machine, rank and backend.
    """
    base = hash64(_AUGMENT, seed, epoch, positions, sample_ids)
    heights, widths = np.asarray(heights, dtype=np.int64), np.asarray(widths, dtype=np.int64)
    if augmentation.crop == "rescale":
        crops = _rescale_crops(base, heights, widths, augmentation.scale, augmentation.ratio)
    elif augmentation.crop == "shift":
        crops = _shift_crops(base, heights, widths, image_size, augmentation.margin)
    else:
        crops = central_crops(heights, widths, image_size)
    flips = np.zeros(len(base), dtype=np.bool_)
    if augmentation.horizontal_flip:
        flips = uniform(hash64(base, _FLIP)) < 0.5
    colours = np.ones((len(base), 3), dtype=np.float32)
    amounts = (augmentation.brightness, augmentation.contrast, augmentation.saturation)
    for column, (word, amount) in enumerate(zip((_BRIGHTNESS, _CONTRAST, _SATURATION), amounts, strict=True)):
        if amount:
            colours[:, column] = 1 + amount * (2 * uniform(hash64(base, word)) - 1)
    return Plan(crops, flips, colours)


def central_crops(heights: Ints, widths: Ints, image_size: int) -> NDArray[np.int32]:
    """The central square window of `image_size`, which evaluation and prediction see: int32[n, 4]."""
    size = np.full(len(heights), image_size, dtype=np.int64)
    return _crops((heights - size) // 2, (widths - size) // 2, size, size)


def _shift_crops(base: U64, heights: Ints, widths: Ints, image_size: int, margin: int) -> NDArray[np.int32]:
    size = np.full(len(base), image_size, dtype=np.int64)
    top = below(hash64(base, _TOP), heights - size + 2 * margin + 1) - margin
    left = below(hash64(base, _LEFT), widths - size + 2 * margin + 1) - margin
    return _crops(top, left, size, size)


def _rescale_crops(
    base: U64, heights: Ints, widths: Ints, scale: tuple[float, float], ratio: tuple[float, float]
) -> NDArray[np.int32]:
    """Szegedy et al., "Going deeper with convolutions" (2014), as torchvision's RandomResizedCrop does it."""
    tries = np.arange(_ATTEMPTS)
    draw = base[:, None]
    area = (heights * widths)[:, None] * (
        scale[0] + (scale[1] - scale[0]) * uniform(hash64(draw, _SCALE, tries))
    )
    low, high = np.log(ratio[0]), np.log(ratio[1])
    aspect = np.exp(low + (high - low) * uniform(hash64(draw, _RATIO, tries)))
    height = np.rint(np.sqrt(area / aspect)).astype(np.int64)
    width = np.rint(np.sqrt(area * aspect)).astype(np.int64)
    fits = (height > 0) & (width > 0) & (height <= heights[:, None]) & (width <= widths[:, None])
    rows, first = np.arange(len(base)), fits.argmax(axis=1)
    found = fits.any(axis=1)
    # Where no try fits, the largest central window whose aspect is allowed.
    shape = widths / heights
    fallback_width = np.where(shape > ratio[1], np.rint(heights * ratio[1]), widths).astype(np.int64)
    fallback_height = np.where(shape < ratio[0], np.rint(widths / ratio[0]), heights).astype(np.int64)
    height = np.where(found, height[rows, first], np.clip(fallback_height, 1, heights))
    width = np.where(found, width[rows, first], np.clip(fallback_width, 1, widths))
    top = np.where(found, below(hash64(base, _TOP), heights - height + 1), (heights - height) // 2)
    left = np.where(found, below(hash64(base, _LEFT), widths - width + 1), (widths - width) // 2)
    return _crops(top, left, height, width)


def _crops(top: Ints, left: Ints, height: Ints, width: Ints) -> NDArray[np.int32]:
    return np.stack([top, left, height, width], axis=1).astype(np.int32)
