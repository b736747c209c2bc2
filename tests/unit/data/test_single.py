"""Single images: each is treated alone, whatever company it comes in."""

import subprocess
import sys

import numpy as np
import pytest

from components.data import single
from components.data.single import decode_and_resize, evaluation_view
from support.datasets import encode
from support.images import synthetic_image


def test_the_company_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = [synthetic_image(0, n, size=((40, 90), (40, 90))) for n in range(12)]
    encoded = [encode(image, "JPEG" if n % 2 else "PNG") for n, image in enumerate(pixels)]
    together = decode_and_resize(encoded, stored_size=48, image_size=40, channels=3)
    monkeypatch.setattr(single, "MAX_BATCH_PIXELS", 10_000)  # two or three at once
    in_parts = decode_and_resize(encoded, stored_size=48, image_size=40, channels=3)
    alone = [decode_and_resize([data], stored_size=48, image_size=40, channels=3)[0] for data in encoded]
    for a, b, c in zip(together, in_parts, alone, strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(a, c)


def test_more_than_a_batch() -> None:
    data = encode(synthetic_image(0, 0, size=(8, 8), colour=False), "PNG")
    arrays = decode_and_resize([data] * 300, stored_size=16, image_size=16, channels=1)
    assert len(arrays) == 300
    assert {array.shape for array in arrays} == {(16, 16, 1)}


def test_sizes() -> None:
    data = [encode(synthetic_image(0, 0, size=size), "PNG") for size in ((30, 60), (60, 30), (20, 500))]
    kept = decode_and_resize(data, stored_size=40, image_size=32, channels=3)
    assert [array.shape for array in kept] == [(40, 80, 3), (80, 40, 3), (40, 160, 3)]
    square = decode_and_resize(data, stored_size=32, image_size=32, channels=3)
    assert {array.shape for array in square} == {(32, 32, 3)}
    view = evaluation_view(kept, image_size=32, mean=(0.5,) * 3, std=(0.25,) * 3)
    assert view.shape == (3, 3, 32, 32)
    np.testing.assert_allclose(view[0, 0, 0, 0], (kept[0][4, 24, 0] / 255 - 0.5) / 0.25, atol=1e-5)


def test_a_colour_image_for_a_grey_model_and_the_other_way_round() -> None:
    colour = encode(synthetic_image(0, 0, size=(30, 30)), "PNG")
    grey = encode(synthetic_image(0, 0, size=(30, 30), colour=False), "PNG")
    assert decode_and_resize([colour], stored_size=30, image_size=30, channels=1)[0].shape == (30, 30, 1)
    (spread,) = decode_and_resize([grey], stored_size=30, image_size=30, channels=3)
    assert (spread[..., 0] == spread[..., 2]).all()


def test_a_bad_image_raises_and_the_next_one_works() -> None:
    good = encode(synthetic_image(0, 0, size=(30, 30)), "PNG")
    with pytest.raises(RuntimeError):
        decode_and_resize([good[:60]], stored_size=30, image_size=30, channels=3, sizes=[(30, 30)])
    assert len(decode_and_resize([good], stored_size=30, image_size=30, channels=3)) == 1


def test_nothing_to_do() -> None:
    assert decode_and_resize([], stored_size=30, image_size=30, channels=3) == []


def test_predict_needs_no_torch() -> None:
    code = (
        "import sys, components.data.single; sys.exit('torch' in sys.modules or 'nvidia.dali' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
