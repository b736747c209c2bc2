"""A small finished pipeline up to the model, made without the steps: handwritten digits, a briefly trained network."""

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from components.common.blobs import Blobs
from components.common.refs import EvaluationRef, ModelRef, ShardsRef, SnapshotRef, Split
from components.common.store import Store, open_store
from components.common.trees import Tree
from components.data.index import INDEX_NAME, SCHEMA
from components.data.shards import Sample, npy_header, write_shard

SIDE = 16
SPLIT_OF_TEN: tuple[Split, ...] = ("train",) * 6 + ("val",) * 2 + ("test",) * 2


@dataclass(frozen=True)
class SmallWorld:
    """References into one store."""

    store: Store
    snapshot: SnapshotRef
    shards: ShardsRef
    model: ModelRef
    evaluation: EvaluationRef

    @property
    def blobs(self) -> Blobs:
        return Blobs(self.store)


def make_small_world(
    path: Path, *, num_images: int = 400, epochs: int = 8, seed: int = 0, num_classes: int = 10
) -> SmallWorld:
    """A file store at `path` with a snapshot, shards, a `lenet` trained on one thread, and its evaluation."""
    store = open_store(str(path / "store"))
    blobs = Blobs(store)
    images, labels = digits(num_images, num_classes)
    splits: list[Split] = [SPLIT_OF_TEN[i % 10] for i in range(len(images))]
    classes = tuple(f"digit_{c}" for c in range(num_classes))
    num: dict[Split, int] = {name: splits.count(name) for name in ("train", "val", "test")}
    snapshot = write_snapshot(blobs, images, labels, splits, classes, num)
    shards = write_shards(blobs, path, images, labels, splits, snapshot, num)
    model, accuracy = train_briefly(blobs, images, labels, splits, shards, epochs=epochs, seed=seed)
    evaluation = EvaluationRef(
        tree=Tree.write(blobs, {}),
        model=model.tree,
        split="test",
        num_samples=num["test"],
        metrics={"accuracy": accuracy, "accuracy_low": accuracy, "accuracy_high": 1.0},
    )
    return SmallWorld(store, snapshot, shards, model, evaluation)


def digits(num_images: int, num_classes: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Handwritten digits, uint8 [n, 16, 16, 1], in a fixed order without the classes from `num_classes` on."""
    from sklearn.datasets import load_digits

    data = load_digits()
    keep = np.flatnonzero(data.target < num_classes)[:num_images]
    small = (data.images[keep] * (255 / 16)).astype(np.uint8)
    large = np.kron(small, np.ones((1, SIDE // 8, SIDE // 8), dtype=np.uint8))
    return large[..., None], data.target[keep].astype(np.int64)


def write_snapshot(
    blobs: Blobs,
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    splits: list[Split],
    classes: tuple[str, ...],
    num: dict[Split, int],
) -> SnapshotRef:
    """One pack and its manifest (the columns that others than ingest read)."""
    rows, pack = [], bytearray()
    for i, pixels in enumerate(images):
        data = to_png(pixels)
        rows.append((digest_of(data), len(pack), len(data), i))
        pack += data
    digest, size = blobs.put(bytes(pack))
    name = digest.removeprefix("sha256:")
    table = pa.table(
        {
            "source": [f"{classes[labels[i]]}/{i:04d}.png" for *_, i in rows],
            "digest": [row[0] for row in rows],
            "pack": [name] * len(rows),
            "offset": [row[1] for row in rows],
            "length": [row[2] for row in rows],
            "label": pa.array(labels.astype(np.int32)),
            "class_name": [classes[label] for label in labels],
            "split": splits,
            "status": ["accepted"] * len(rows),
        }
    )
    sink = io.BytesIO()
    pq.write_table(table, sink)
    tree = Tree.write(
        blobs, {"manifest.parquet": blobs.put(sink.getvalue()), f"packs/{name}.tar": (digest, size)}
    )
    return SnapshotRef(
        tree=tree,
        dataset="digits",
        classes=classes,
        num_accepted=len(images),
        num_quarantined=0,
        num_duplicates=0,
        reasons={},
        splits=num,
        channels=1,
        median_height=SIDE,
        median_width=SIDE,
    )


def write_shards(
    blobs: Blobs,
    folder: Path,
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    splits: list[Split],
    snapshot: SnapshotRef,
    num: dict[Split, int],
) -> ShardsRef:
    """One shard a split, raw pixels."""
    entries, rows = {}, []
    for split in ("train", "val", "test"):
        chosen = [i for i, own in enumerate(splits) if own == split]
        keys = [digest_of(to_png(images[i])).removeprefix("sha256:")[:20] for i in chosen]
        samples = [
            Sample(key, int(labels[i]), npy_header(images[i].shape) + images[i].tobytes())
            for key, i in zip(keys, chosen, strict=True)
        ]
        path = folder / f"{split}.tar"
        places = write_shard(path, samples, "npy")
        name = f"shards/{split}-00000.tar"
        entries[name] = blobs.put(path)
        for key, i, (offset, length) in zip(keys, chosen, places, strict=True):
            rows.append(
                {
                    "split": split,
                    "shard": name,
                    "shard_digest": entries[name][0],
                    "shard_bytes": entries[name][1],
                    "offset": offset,
                    "length": length,
                    "format": "npy",
                    "label": int(labels[i]),
                    "key": key,
                    "source": f"{snapshot.classes[labels[i]]}/{i:04d}.png",
                    "height": SIDE,
                    "width": SIDE,
                    "group": str(i),
                }
            )
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), sink)
    entries[INDEX_NAME] = blobs.put(sink.getvalue())
    train = images[[own == "train" for own in splits]] / 255
    counts = np.bincount(labels[[own == "train" for own in splits]], minlength=len(snapshot.classes))
    return ShardsRef(
        tree=Tree.write(blobs, entries),
        snapshot=snapshot.tree,
        classes=snapshot.classes,
        image_size=SIDE,
        stored_size=SIDE,
        channels=1,
        mean=(float(train.mean()),),
        std=(float(train.std()),),
        splits=num,
        class_counts=tuple(int(count) for count in counts),
        class_weights=(1.0,) * len(counts),
    )


def train_briefly(
    blobs: Blobs,
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    splits: list[Split],
    shards: ShardsRef,
    *,
    epochs: int,
    seed: int,
) -> tuple[ModelRef, float]:
    """A `lenet` after a few epochs, and its test accuracy."""
    import torch

    from components.models.architectures import build_model, num_parameters
    from components.models.weights import save_model

    own = np.array(splits)
    x = torch.from_numpy(((images.transpose(0, 3, 1, 2) / 255 - shards.mean[0]) / shards.std[0]).astype("f4"))
    y = torch.from_numpy(labels)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build_model(
            "lenet", num_classes=len(shards.classes), channels=1, image_size=shards.image_size
        )
        optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
        rows = torch.from_numpy(np.flatnonzero(own == "train"))
        for _ in range(epochs):
            for batch in rows[torch.randperm(len(rows))].split(32):
                loss = torch.nn.functional.cross_entropy(model(x[batch]), y[batch])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        model.eval()
        with torch.inference_mode():
            right = (model(x).argmax(dim=1) == y).numpy()
    torch.set_num_threads(threads)
    accuracy = {split: float(right[own == split].mean()) for split in ("val", "test")}
    ref = save_model(
        blobs,
        model.state_dict(),
        shards,
        architecture="lenet",
        epochs=epochs,
        num_parameters=num_parameters(model),
        val_accuracy=accuracy["val"],
        history=[],
        config={"seed": seed},
    )
    return ref, accuracy["test"]


def to_png(pixels: NDArray[np.uint8]) -> bytes:
    """One grey image [S, S, 1] as a PNG file."""
    sink = io.BytesIO()
    Image.fromarray(pixels[..., 0]).save(sink, "PNG")
    return sink.getvalue()


def digest_of(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()
