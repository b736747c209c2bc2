"""Settings of the ingest step."""

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from components.common.config import NotInKey, StepConfig


class SplitConfig(StepConfig):
    """Shares of the three splits. Images that have a split already keep it, whatever is set here later."""

    train: float = Field(default=0.8, gt=0, lt=1)
    """Share of the images to learn from."""
    val: float = Field(default=0.1, gt=0, lt=1)
    """Share of the images that choices are made on (early stopping, the compressed model)."""
    test: float = Field(default=0.1, gt=0, lt=1)
    """Share of the images that the reported figures are of."""
    min_per_class: int = Field(default=1, ge=0)
    """Least images of each class in val and in test, where the class has enough to leave one for training."""
    seed: int = Field(default=0, ge=0)
    """Another seed gives another assignment; it makes a new line of snapshots, which inherits nothing."""

    @model_validator(mode="after")
    def _sum_is_one(self) -> "SplitConfig":
        total = self.train + self.val + self.test
        if abs(total - 1.0) > 1e-6:
            raise ValueError(f"train, val and test shares that add up to 1, not to {total:g}")
        return self


class ArchiveConfig(StepConfig):
    """Limits that a tar or zip archive must keep: it may come from anywhere."""

    max_members: int = Field(default=10_000_000, ge=1)
    """Most members."""
    max_bytes: int = Field(default=2**40, ge=1)
    """Most bytes of all members together, unpacked."""
    max_ratio: float = Field(default=200.0, gt=1)
    """Most bytes that one packed byte may become (a zip bomb has thousands; images hardly shrink)."""


class IngestConfig(StepConfig):
    """From a folder, list, archive or bucket of labelled images to a checked, split snapshot."""

    source: Annotated[str | None, NotInKey] = None
    """A folder, a .csv list, a tar or zip archive, or s3://bucket/prefix."""
    dataset: str | None = Field(default=None, pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")
    """Name of the data set, which its snapshots follow each other under; null: made from the source's name."""
    parent: Literal["auto", "none"] = "auto"
    """auto: go on from the latest snapshot of this data set, so that no image changes its split; none: start anew."""
    label_from: Literal["auto", "folder", "column", "pattern"] = "auto"
    """Where a class comes from: the first folder of a name, a column of the list, a pattern; auto: what is there."""
    pattern: str | None = None
    """A regular expression searched in the relative name; its group `label` (or first group) is the class."""
    path_column: str = "path"
    """The list's column of image paths, relative to the list's folder."""
    label_column: str = "label"
    """The list's column of class names."""
    split: SplitConfig = Field(default_factory=SplitConfig)
    """How images are divided into training, validation and test."""
    max_pixels: int = Field(default=100_000_000, ge=1)
    """Most pixels of an image; checked in its header, before it is decoded."""
    max_file_bytes: int = Field(default=256 * 2**20, ge=1)
    """Most bytes of an image file; larger ones are quarantined unread."""
    min_side: int = Field(default=4, ge=1)
    """Least pixels of the shorter side."""
    max_quarantined_share: float = Field(default=0.1, ge=0, le=1)
    """Above this share of bad images the step fails and says which they are."""
    near_duplicate: int = Field(default=4, ge=0, le=7)
    """Most differing bits of two 64-bit perceptual hashes of near duplicates, which stay in one split; 0: no search."""
    pack_bytes: int = Field(default=64 * 2**20, ge=2**10)
    """Size of the tar files that images are kept in."""
    archive: ArchiveConfig = Field(default_factory=ArchiveConfig)
    """Limits of archives."""
    num_workers: Annotated[int | None, NotInKey] = Field(default=None, ge=1)
    """Processes that check images; null: one for each core."""
    timeout_s: Annotated[float, NotInKey] = Field(default=300.0, gt=0)
    """Most seconds that a batch of some 256 images may take before its decoder counts as hung."""

    @field_validator("pattern")
    @classmethod
    def _has_a_group(cls, value: str | None) -> str | None:
        if value is None:
            return value
        try:
            groups = re.compile(value).groups
        except re.error as error:
            raise ValueError(f"a regular expression ({error})") from None
        if groups < 1:
            raise ValueError(
                "a regular expression with a group for the class, such as ^[^/]+/(?P<label>[^/]+)/"
            )
        return value

    @model_validator(mode="after")
    def _pattern_is_there(self) -> "IngestConfig":
        if self.label_from == "pattern" and self.pattern is None:
            raise ValueError("a pattern, since label_from is pattern")
        if self.pattern is not None and self.label_from not in {"auto", "pattern"}:
            raise ValueError(f"no pattern, since label_from is {self.label_from}")
        return self
