"""The arithmetic at the end of a loader: mirrored shifts, normalisation, folded colours."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.data.augment import Plan
from components.data.loaders.batch import View, normalisation, normalise
from components.data.loaders.reading import shift


@given(st.integers(4, 12), st.integers(-3, 3), st.integers(-3, 3))
def test_shift_is_numpy_s_reflect_padding(size: int, top: int, left: int) -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, size, size, 3), dtype=np.uint8)
    padded = np.pad(images, ((0, 0), (3, 3), (3, 3), (0, 0)), mode="reflect")
    crops = np.array([[top, left, size, size], [0, 0, size, size]], dtype=np.int32)
    moved = shift(images, crops)
    np.testing.assert_array_equal(moved[0], padded[0, 3 + top : 3 + top + size, 3 + left : 3 + left + size])
    np.testing.assert_array_equal(moved[1], images[1])


def test_normalise() -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 5, 4, 3), dtype=np.uint8)
    mean, std = (0.1, 0.5, 0.7), (0.2, 0.3, 0.4)
    found = normalise(images, mean, std)
    assert found.dtype == np.float32
    assert found.flags.c_contiguous
    expected = (images / 255.0 - mean) / std
    np.testing.assert_allclose(found, expected.transpose(0, 3, 1, 2), atol=2e-6)


def test_normalise_does_not_depend_on_the_batch() -> None:
    images = np.random.default_rng(1).integers(0, 256, (8, 16, 16, 1), dtype=np.uint8)
    together = normalise(images, (0.13,), (0.31,))
    alone = np.concatenate([normalise(images[n : n + 1], (0.13,), (0.31,)) for n in range(8)])
    np.testing.assert_array_equal(together, alone)


@pytest.mark.parametrize("brightness", [0.8, 1.0, 1.3])
@pytest.mark.parametrize("contrast", [0.7, 1.0, 1.2])
def test_brightness_and_contrast_fold_into_the_normalisation(brightness: float, contrast: float) -> None:
    view = View(True, True, 4, 3, (0.1, 0.5, 0.7), (0.2, 0.3, 0.4), True)
    colours = np.array([[brightness, contrast, 1.0]], dtype=np.float32)
    offset, scale = normalisation(view, Plan(np.zeros((1, 4), np.int32), np.zeros(1, np.bool_), colours))
    assert offset.dtype == scale.dtype == np.float32
    for pixel in (0.0, 100.0, 255.0):
        changed = brightness * (contrast * (pixel - 128) + 128)
        expected = (changed / 255 - np.array(view.mean)) / np.array(view.std)
        np.testing.assert_allclose((pixel - offset[0]) / scale[0], expected, atol=1e-4)
