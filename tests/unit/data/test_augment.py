"""The augmentation plan: fixed for ever, inside the image, and nothing but a function of its words."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import ValidationError

from components.data.augment import Augmentation, AugmentConfig, Plan, central_crops, plan, resolve
from components.data.hashing import hash64

RESCALE = Augmentation("rescale", (0.25, 1.0), (0.75, 4 / 3), 0, True, 0.2, 0.2, 0.2)
SHIFT = Augmentation("shift", (0.25, 1.0), (0.75, 4 / 3), 3, False, 0.0, 0.0, 0.0)


def make_plan(
    augmentation: Augmentation,
    num: int,
    *,
    seed: int = 0,
    epoch: int = 0,
    height: int = 256,
    width: int = 340,
    size: int = 224,
) -> Plan:
    ids = hash64(99, np.arange(num))
    return plan(
        augmentation, seed, epoch, np.arange(num), ids, np.full(num, height), np.full(num, width), size
    )


def test_golden_rescale() -> None:
    found = make_plan(RESCALE, 4)
    assert found.crops.tolist() == GOLDEN_CROPS
    assert found.flips.tolist() == GOLDEN_FLIPS
    np.testing.assert_array_equal(found.colours, np.array(GOLDEN_COLOURS, dtype=np.float32))


def test_golden_shift() -> None:
    found = make_plan(SHIFT, 4, height=28, width=28, size=28)
    assert found.crops.tolist() == GOLDEN_SHIFTS
    assert not found.flips.any()
    assert (found.colours == 1).all()


GOLDEN_CROPS: list[list[int]] = [[6, 26, 207, 256], [20, 93, 227, 215], [3, 16, 180, 170], [6, 103, 239, 227]]
GOLDEN_FLIPS: list[bool] = [True, True, False, False]
GOLDEN_COLOURS: list[list[float]] = [
    [0.86694413, 0.8446845, 0.990631],
    [0.9637067, 0.88292074, 1.1851507],
    [0.84205705, 1.122904, 1.1217281],
    [0.95876867, 1.0317259, 1.0428928],
]
GOLDEN_SHIFTS: list[list[int]] = [[-3, -1, 28, 28], [1, 2, 28, 28], [-3, -3, 28, 28], [-1, 3, 28, 28]]


def test_types() -> None:
    found = make_plan(RESCALE, 5)
    assert found.crops.dtype == np.int32
    assert found.crops.shape == (5, 4)
    assert found.flips.dtype == np.bool_
    assert found.colours.dtype == np.float32


@given(
    st.integers(1, 600),
    st.integers(1, 600),
    st.integers(0, 1000),
    st.tuples(st.floats(0.01, 1.0), st.floats(0.01, 1.0)).map(lambda pair: (min(pair), max(pair))),
    st.tuples(st.floats(0.1, 10.0), st.floats(0.1, 10.0)).map(lambda pair: (min(pair), max(pair))),
)
def test_rescaled_windows_lie_inside(
    height: int, width: int, seed: int, scale: tuple[float, float], ratio: tuple[float, float]
) -> None:
    augmentation = Augmentation("rescale", scale, ratio, 0, False, 0.0, 0.0, 0.0)
    crops = make_plan(augmentation, 16, seed=seed, height=height, width=width).crops
    assert (crops[:, :2] >= 0).all()
    assert (crops[:, 2:] > 0).all()
    assert (crops[:, 0] + crops[:, 2] <= height).all()
    assert (crops[:, 1] + crops[:, 3] <= width).all()


@given(st.integers(8, 64), st.integers(0, 8), st.integers(0, 1000))
def test_shifted_windows_leave_by_at_most_the_margin(size: int, margin: int, seed: int) -> None:
    augmentation = Augmentation("shift", (1.0, 1.0), (1.0, 1.0), margin, False, 0.0, 0.0, 0.0)
    crops = make_plan(augmentation, 32, seed=seed, height=size, width=size, size=size).crops
    assert (np.abs(crops[:, :2]) <= margin).all()
    assert (crops[:, 2:] == size).all()


@given(st.integers(64, 300), st.integers(64, 300), st.integers(0, 1000))
def test_windows_shifted_in_a_larger_image_stay_inside(height: int, width: int, seed: int) -> None:
    augmentation = Augmentation("shift", (1.0, 1.0), (1.0, 1.0), 0, False, 0.0, 0.0, 0.0)
    crops = make_plan(augmentation, 16, seed=seed, height=height, width=width, size=64).crops
    assert (crops[:, :2] >= 0).all()
    assert (crops[:, 0] + 64 <= height).all()
    assert (crops[:, 1] + 64 <= width).all()


@given(st.integers(0, 2**63), st.integers(0, 100), st.permutations(range(12)))
def test_a_sample_s_plan_does_not_depend_on_its_neighbours(seed: int, epoch: int, order: list[int]) -> None:
    ids = hash64(1, np.arange(12))
    heights, widths, positions = np.arange(200, 212), np.arange(300, 312), np.arange(100, 112)
    whole = plan(RESCALE, seed, epoch, positions, ids, heights, widths, 224)
    at = np.array(order)
    some = plan(RESCALE, seed, epoch, positions[at], ids[at], heights[at], widths[at], 224)
    np.testing.assert_array_equal(some.crops, whole.crops[at])
    np.testing.assert_array_equal(some.flips, whole.flips[at])
    np.testing.assert_array_equal(some.colours, whole.colours[at])


def test_seed_and_epoch_change_the_plan() -> None:
    plans = [make_plan(RESCALE, 8, seed=seed, epoch=epoch) for seed in (0, 1) for epoch in (0, 1)]
    assert len({found.crops.tobytes() for found in plans}) == 4
    assert len({found.colours.tobytes() for found in plans}) == 4


def test_what_is_drawn_is_even() -> None:
    found = make_plan(RESCALE, 20_000)
    assert abs(found.flips.mean() - 0.5) < 0.015
    assert found.colours.min() > 0.8
    assert found.colours.max() < 1.2
    np.testing.assert_allclose(found.colours.mean(axis=0), 1.0, atol=0.005)
    area = found.crops[:, 2] * found.crops[:, 3] / (256 * 340)
    assert 0.24 < area.min() < 0.27
    assert area.max() <= 1
    # The draws of different parameters share no bits.
    assert abs(np.corrcoef(found.flips, found.colours[:, 0])[0, 1]) < 0.03
    assert abs(np.corrcoef((found.crops[:, 0] + 0.5) / (257 - found.crops[:, 2]), area)[0, 1]) < 0.03


def test_windows_have_torchvision_s_distribution() -> None:
    """Area and aspect of 20,000 windows against RandomResizedCrop's own, by their quantiles."""
    from components.common.torchvision_compat import import_torchvision

    import_torchvision()
    import torch
    from torchvision.transforms import RandomResizedCrop

    ours = make_plan(RESCALE, 20_000, height=200, width=300).crops.astype(float)
    image = torch.empty(3, 200, 300)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        theirs = np.array(
            [RandomResizedCrop.get_params(image, [0.25, 1.0], [0.75, 4 / 3]) for _ in range(20_000)],
            dtype=float,
        )

    def measures(crops: NDArray[np.float64]) -> list[NDArray[np.float64]]:
        top, left, height, width = crops.T
        return [height * width, width / height, top, left]

    for mine, other in zip(measures(ours), measures(theirs), strict=True):
        at = [0.1, 0.3, 0.5, 0.7, 0.9]
        np.testing.assert_allclose(np.quantile(mine, at), np.quantile(other, at), rtol=0.05, atol=3)


def test_central_crops() -> None:
    assert central_crops(np.array([256, 28]), np.array([341, 29]), 28).tolist() == [
        [114, 156, 28, 28],
        [0, 0, 28, 28],
    ]


@pytest.mark.parametrize(
    ("size", "stored", "channels", "raw", "expected"),
    [
        (28, 28, 1, True, ("shift", 3, False, 0.0, 0.0)),
        (32, 32, 3, True, ("shift", 3, True, 0.0, 0.0)),
        (224, 256, 3, False, ("rescale", 0, True, 0.2, 0.2)),
        (224, 256, 1, False, ("rescale", 0, False, 0.0, 0.0)),
        (64, 64, 3, False, ("rescale", 0, True, 0.0, 0.0)),
    ],
)
def test_what_is_left_open_is_chosen_from_the_images(
    size: int, stored: int, channels: int, raw: bool, expected: tuple[object, ...]
) -> None:
    found = resolve(AugmentConfig(), image_size=size, stored_size=stored, channels=channels, raw=raw)
    assert (found.crop, found.margin, found.horizontal_flip, found.brightness, found.saturation) == expected


def test_settings_win() -> None:
    config = AugmentConfig(crop="none", horizontal_flip=True, brightness=0.5, saturation=0.5)
    found = resolve(config, image_size=28, stored_size=28, channels=1, raw=True)
    assert (found.crop, found.horizontal_flip, found.brightness) == ("none", True, 0.5)
    assert found.saturation == 0  # a grey image has none


@pytest.mark.parametrize(
    "wrong", [{"scale": (0.5, 0.2)}, {"scale": (0.5, 1.5)}, {"ratio": (0.0, 1.0)}, {"brightness": 1.0}]
)
def test_impossible_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        AugmentConfig(**wrong)  # type: ignore[arg-type]
