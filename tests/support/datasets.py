"""Small data sets for the loader's and preprocess's tests: a snapshot by hand, or its shards."""

import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from components.common.blobs import Blobs
from components.common.progress import make_reporter
from components.common.refs import ShardsRef, SnapshotRef
from components.common.step import execute
from components.common.store import Store
from components.preprocess import run as preprocess
from components.preprocess.config import PreprocessConfig
from support.images import Size, synthetic_image
from support.snapshots import Item, write_snapshot

NUM_CLASSES = 3


def encode(pixels: NDArray[np.uint8], fmt: str) -> bytes:
    """`fmt` is what Pillow calls it."""
    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, fmt, **({"quality": 92} if fmt == "JPEG" else {}))
    return sink.getvalue()


def make_items(
    num: int, *, size: Size | tuple[Size, Size], colour: bool, fmt: str, in_order: bool = True
) -> list[Item]:
    """`num` images of three classes; of ten, eight train and one each is in val and test."""
    items = []
    for number in range(num):
        label = number * NUM_CLASSES // num if in_order else number % NUM_CLASSES
        pixels = synthetic_image(label, number, classes=NUM_CLASSES, size=size, colour=colour)
        split = {8: "val", 9: "test"}.get(number % 10, "train")
        items.append(Item(encode(pixels, fmt), label, split))  # type: ignore[arg-type]
    return items


def make_snapshot(
    store: Store, items: Sequence[Item], *, colour: bool, median: Size, per_pack: int = 40
) -> SnapshotRef:
    classes = [f"class_{label}" for label in range(NUM_CLASSES)]
    return write_snapshot(
        Blobs(store), items, classes, channels=3 if colour else 1, median=median, per_pack=per_pack
    )


def make_shards(
    store: Store,
    num: int,
    *,
    size: Size,
    colour: bool,
    fmt: str,
    config: PreprocessConfig | None = None,
) -> ShardsRef:
    """Preprocess as a run does, in one worker."""
    items = make_items(num, size=size, colour=colour, fmt=fmt)
    snapshot = make_snapshot(store, items, colour=colour, median=size)
    return preprocess_snapshot(store, snapshot, config)


def preprocess_snapshot(
    store: Store, snapshot: SnapshotRef, config: PreprocessConfig | None = None
) -> ShardsRef:
    config = config or PreprocessConfig(num_workers=1)
    inputs = preprocess.Inputs(snapshot=snapshot)
    shards = execute(preprocess, config, inputs, store, make_reporter(quiet=True)).output
    assert isinstance(shards, ShardsRef)
    return shards
