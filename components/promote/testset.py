"""The challenger's test split as original images: each model must see them through its own preprocessing."""

import io
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pyarrow.parquet as pq

from components.common.blobs import Blobs
from components.common.canonical import DIGEST_PREFIX
from components.common.progress import Task
from components.common.refs import SnapshotRef
from components.common.trees import Tree
from components.models.predictor import NO_LABEL, Predictor
from components.promote.answers import Answers

BATCH = 64
COLUMNS = ["pack", "offset", "length", "class_name", "split", "status"]


@dataclass(frozen=True, slots=True)
class TestImage:
    """Where an image lies, and its true class."""

    __test__ = False  # pytest takes the name for a test's

    pack: str
    """Digest of the pack's blob."""
    offset: int
    length: int
    class_name: str


def test_images(snapshot: SnapshotRef, blobs: Blobs) -> list[TestImage]:
    """The accepted images of the test split, in the order in which they lie in their packs."""
    entry = Tree.read(blobs, snapshot.tree)["manifest.parquet"]
    table = pq.read_table(
        io.BytesIO(blobs.read(entry.digest)),
        columns=COLUMNS,
        filters=[("split", "=", "test"), ("status", "=", "accepted")],
    )
    rows = zip(*(table[name].to_pylist() for name in COLUMNS[:4]), strict=True)
    images = [TestImage(DIGEST_PREFIX + pack, offset, length, name) for pack, offset, length, name in rows]
    return sorted(images, key=lambda image: (image.pack, image.offset))


test_images.__test__ = False  # type: ignore[attr-defined]


def answer(
    predictors: Sequence[Predictor],
    images: Sequence[TestImage],
    blobs: Blobs,
    *,
    num_readers: int,
    task: Task,
) -> list[Answers]:
    """What each model says to every image; each image is read once, by range."""
    said: list[list[str | None]] = [[] for _ in predictors]
    for encoded in _batches(images, blobs, num_readers):
        for predictor, own in zip(predictors, said, strict=True):
            labels = predictor.predict(encoded).labels.tolist()
            own.extend(None if k == NO_LABEL else predictor.spec.classes[k] for k in labels)
        task.advance(len(encoded))
    truth = [image.class_name for image in images]
    return [Answers(truth, own) for own in said]


def _batches(images: Sequence[TestImage], blobs: Blobs, num_readers: int) -> Iterator[list[bytes]]:
    def read(image: TestImage) -> bytes:
        with blobs.open(image.pack, image.offset, image.length) as stream:
            return stream.read()

    with ThreadPoolExecutor(num_readers) as pool:
        for start in range(0, len(images), BATCH):
            yield list(pool.map(read, images[start : start + BATCH]))
