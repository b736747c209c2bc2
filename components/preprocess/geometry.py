"""Which size and format the images get, where the settings leave it open."""

from dataclasses import dataclass

from components.common.errors import InputError
from components.common.refs import SnapshotRef, Split
from components.data.augment import SMALL_SIDE
from components.data.index import SampleFormat
from components.preprocess.config import PreprocessConfig

SIDES = (96, 128, 160, 192, 224)


@dataclass(frozen=True, slots=True)
class Geometry:
    """How images are stored; sides in pixels."""

    image_size: int
    stored_size: int
    channels: int
    raw: bool

    @property
    def square(self) -> bool:
        """Images are resized to exactly `image_size` squares; otherwise the aspect is kept."""
        return self.stored_size == self.image_size

    def format(self, split: Split) -> SampleFormat:
        """How a split is stored: val and test never lose anything, so that predict and evaluate agree to the bit."""
        if self.raw:
            return "npy"
        return "jpg" if split == "train" else "png"


def choose_geometry(config: PreprocessConfig, snapshot: SnapshotRef) -> Geometry:
    """Settings first, then the median image. Raises `InputError` where the two do not fit each other."""
    image_size = config.image_size or _image_size(
        min(snapshot.median_height, snapshot.median_width), config.min_image_size
    )
    stored_size = config.stored_size or (
        image_size if image_size <= SMALL_SIDE else round(image_size * 8 / 7)
    )
    if stored_size < image_size:
        raise InputError(
            "the stored images are smaller than what a model is to see",
            where="preprocess.stored_size",
            expected=f"at least the image size, {image_size} (chosen from the images)",
            found=str(stored_size),
            todo="raise stored_size, or set image_size too",
        )
    raw = image_size <= SMALL_SIDE if config.format == "auto" else config.format == "raw"
    return Geometry(image_size, stored_size, snapshot.channels, raw)


def _image_size(side: int, least: int) -> int:
    """From the shorter side of the median image."""
    if side <= SMALL_SIDE:
        return max(side, least)
    return max((s for s in SIDES if s <= side), default=SMALL_SIDE)
