"""Mean, deviation and class weights: exact."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.preprocess.convert import channel_sums
from components.preprocess.stats import LEAST_STD, class_weights, mean_and_std


@pytest.mark.parametrize("channels", [1, 3])
def test_mean_and_std_equal_numpy_s(channels: int) -> None:
    rng = np.random.default_rng(0)
    arrays = [rng.integers(0, 256, (h, w, channels), dtype=np.uint8) for h, w in ((5, 7), (300, 200), (5, 7))]
    mean, std = mean_and_std(*channel_sums(arrays, channels))
    pixels = np.concatenate([array.reshape(-1, channels) for array in arrays]) / 255
    np.testing.assert_allclose(mean, pixels.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(std, pixels.std(axis=0), rtol=1e-12)


@given(st.permutations(range(6)), st.integers(1, 5))
def test_order_and_grouping_change_no_bit(order: list[int], cut: int) -> None:
    rng = np.random.default_rng(1)
    arrays = [rng.integers(0, 256, (9, 8, 3), dtype=np.uint8) for _ in range(6)]
    whole = channel_sums(arrays, 3)
    shuffled = [arrays[number] for number in order]
    parts = [channel_sums(shuffled[:cut], 3), channel_sums(shuffled[cut:], 3)]
    assert tuple(a + b for a, b in zip(parts[0][0], parts[1][0], strict=True)) == whole[0]
    assert tuple(a + b for a, b in zip(parts[0][1], parts[1][1], strict=True)) == whole[1]
    assert parts[0][2] + parts[1][2] == whole[2]


def test_no_training_images_in_a_chunk() -> None:
    assert channel_sums([], 3) == ((0, 0, 0), (0, 0, 0), 0)


def test_a_constant_channel_does_not_divide_by_zero() -> None:
    mean, std = mean_and_std(*channel_sums([np.full((4, 4, 1), 51, dtype=np.uint8)], 1))
    assert mean == (0.2,)
    assert std == (LEAST_STD,)


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=30).filter(any))
def test_class_weights_average_one_over_the_images(counts: list[int]) -> None:
    weights = class_weights(counts)
    assert sum(w * n for w, n in zip(weights, counts, strict=True)) / sum(counts) == pytest.approx(1)
    assert all((weight == 0) == (count == 0) for weight, count in zip(weights, counts, strict=True))
