"""Sizes and formats that are chosen from the images."""

from typing import Any

import pytest
from pydantic import ValidationError

from components.common.errors import InputError
from components.common.refs import SnapshotRef
from components.preprocess.config import PreprocessConfig
from components.preprocess.geometry import Geometry, choose_geometry


def snapshot(height: int, width: int, channels: Any = 3) -> SnapshotRef:
    return SnapshotRef(
        tree="sha256:" + "0" * 64,
        dataset="d",
        classes=("a", "b"),
        num_accepted=2,
        num_quarantined=0,
        num_duplicates=0,
        reasons={},
        splits={"train": 2},
        channels=channels,
        median_height=height,
        median_width=width,
    )


@pytest.mark.parametrize(
    ("height", "width", "image_size", "stored_size", "raw"),
    [
        (8, 8, 16, 16, True),
        (28, 28, 28, 28, True),
        (32, 32, 32, 32, True),
        (64, 90, 64, 64, True),
        (65, 80, 64, 64, True),
        (96, 96, 96, 110, False),
        (150, 127, 96, 110, False),
        (128, 200, 128, 146, False),
        (200, 200, 192, 219, False),
        (375, 500, 224, 256, False),
        (4000, 3000, 224, 256, False),
    ],
)
def test_chosen_from_the_median_image(
    height: int, width: int, image_size: int, stored_size: int, raw: bool
) -> None:
    found = choose_geometry(PreprocessConfig(), snapshot(height, width))
    assert found == Geometry(image_size, stored_size, 3, raw)


def test_settings_win() -> None:
    config = PreprocessConfig(image_size=128, stored_size=128, format="jpeg")
    assert choose_geometry(config, snapshot(28, 28, 1)) == Geometry(128, 128, 1, False)
    assert choose_geometry(PreprocessConfig(min_image_size=32), snapshot(8, 8)).image_size == 32


def test_splits_that_are_judged_on_lose_nothing() -> None:
    large = Geometry(224, 256, 3, raw=False)
    assert [large.format(split) for split in ("train", "val", "test")] == ["jpg", "png", "png"]
    assert Geometry(28, 28, 1, raw=True).format("train") == "npy"


def test_stored_smaller_than_seen_is_refused() -> None:
    with pytest.raises(ValidationError, match="at least the image_size"):
        PreprocessConfig(image_size=128, stored_size=96)
    with pytest.raises(InputError, match="smaller than what a model is to see"):
        choose_geometry(PreprocessConfig(stored_size=100), snapshot(400, 400))
