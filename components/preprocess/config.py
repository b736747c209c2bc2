"""Settings of the preprocess step."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from components.common.config import NotInKey, StepConfig


class PreprocessConfig(StepConfig):
    """From a snapshot to shards of one size and format."""

    image_size: int | None = Field(default=None, ge=8, le=2048)
    """Side in pixels of the square that a model sees. Unset: the images' own size up to 64, above it the largest of 96,
    128, 160, 192 and 224 that the median image fills."""
    min_image_size: int = Field(default=16, ge=8, le=64)
    """Least side that is chosen for small images: tiny ones are enlarged, so that a network can pool."""
    stored_size: int | None = Field(default=None, ge=8, le=4096)
    """Shorter side in pixels of the stored images; crops are cut from them. Unset: 8/7 of the image size (256 for 224),
    and the image size itself up to 64. Equal to the image size, images are stored as exact squares."""
    format: Literal["auto", "raw", "jpeg"] = "auto"
    """raw: uncompressed pixels, fastest to read. jpeg: the training split as JPEG, the others as PNG, so that they
    lose nothing. auto: raw up to an image size of 64."""
    jpeg_quality: int = Field(default=95, ge=50, le=100)
    """Quality of the stored training images."""
    shard_bytes: int = Field(default=64 * 2**20, ge=2**12)
    """Size that a shard should have; the real one depends on how well the images compress."""
    num_workers: Annotated[int | None, NotInKey] = Field(default=None, ge=1)
    """Processes that decode; unset: one for each core."""
    scratch_bytes: Annotated[int, NotInKey] = Field(default=64 * 2**30, ge=2**20)
    """Most bytes of processed images that wait on this disk; larger data is done in rounds that each read the packs."""
    timeout_s: Annotated[float, NotInKey] = Field(default=600.0, gt=0)
    """Most seconds that a batch of at most 256 images may take before its decoder counts as hung."""

    @model_validator(mode="after")
    def _stored_covers_image(self) -> "PreprocessConfig":
        if (
            self.stored_size is not None
            and self.image_size is not None
            and self.stored_size < self.image_size
        ):
            raise ValueError(f"a stored_size of at least the image_size, which is {self.image_size}")
        return self
