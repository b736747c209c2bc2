"""Hashes, thumbnails, greyness and digests of pixels."""

import numpy as np
from PIL import Image

from components.ingest.features import compute_features
from components.ingest.group import near_pairs
from support.images import synthetic_image


def colour(index: int, size: tuple[int, int] = (48, 40)) -> np.ndarray:
    return synthetic_image(index % 3, index, size=size)


def test_grey_is_red_equals_green_equals_blue_everywhere() -> None:
    grey = np.repeat(synthetic_image(0, 0, colour=False)[..., None], 3, axis=2)
    almost = grey.copy()
    almost[-1, -1, 2] ^= 1
    big = np.repeat(synthetic_image(0, 0, size=(90, 70), colour=False)[..., None], 3, axis=2)
    assert compute_features([grey, almost, colour(1), big]).grey.tolist() == [True, False, False, True]


def test_digest_is_of_shape_and_pixels() -> None:
    flat = np.zeros((4, 6, 3), np.uint8)
    digests = compute_features([flat, flat.copy(), flat.reshape(6, 4, 3), flat + 1]).digest
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3


def test_an_image_is_described_the_same_alone_and_in_company() -> None:
    images = [colour(i, size) for i, size in enumerate([(48, 40)] * 3 + [(100, 30), (48, 40), (8, 8)])]
    together = compute_features(images)
    for i, image in enumerate(images):
        alone = compute_features([image])
        assert alone.phash[0] == together.phash[i]
        assert (alone.thumb[0] == together.thumb[i]).all()


def test_known_values() -> None:
    """Committed: another machine, BLAS or numpy must not change a bit (groups and splits hang on them)."""
    found = compute_features([colour(0), colour(1, (130, 97)), colour(2, (8, 8))])
    assert [f"{h:016x}" for h in found.phash.tolist()] == KNOWN
    assert [int(t.astype(int).sum()) for t in found.thumb] == KNOWN_THUMB_SUMS


KNOWN = ["31cd981692f069ed", "52d97819581fb5e0", "5c5ce6705c3096bc"]
KNOWN_THUMB_SUMS = [17499, 16999, 14720]


def test_copies_are_near_and_different_pictures_are_not() -> None:
    images = [colour(i, (90, 120)) for i in range(40)]
    smaller = [np.asarray(Image.fromarray(i).resize((80, 60), Image.Resampling.BICUBIC)) for i in images]
    brighter = [np.clip(i.astype(int) + 6, 0, 255).astype(np.uint8) for i in images]
    found = compute_features([*images, *smaller, *brighter])
    pairs = near_pairs(found.phash, lambda some: found.thumb[some], 4, np.ones(120, np.bool_))
    assert {(a % 40) - (b % 40) for a, b in pairs.tolist()} == {0}, "no false pair"
    assert len(pairs) > 100, "nearly all of 120"
