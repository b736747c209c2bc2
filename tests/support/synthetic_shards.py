"""Small shards without ingest and preprocess: pixels in arrays → a shards tree in a store."""

import hashlib
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from components.common.blobs import Blobs
from components.common.refs import ShardsRef, Split
from components.common.trees import Tree
from components.data.index import INDEX_NAME, SCHEMA, write_index
from components.data.shards import NPY_HEADER_BYTES, Sample, npy_header, write_shard

Arrays = tuple[NDArray[np.uint8], NDArray[np.int64]]
SHARD_SAMPLES = 64


def make_shards(blobs: Blobs, splits: Mapping[Split, Arrays], num_classes: int) -> ShardsRef:
    """Store raw shards of images uint8 [n, S, S, C] with labels [n], per split; statistics as preprocess has them."""
    entries: dict[str, tuple[str, int]] = {}
    rows: list[dict[str, Any]] = []
    for split, (images, labels) in splits.items():
        for number, start in enumerate(range(0, len(images), SHARD_SAMPLES)):
            part = slice(start, start + SHARD_SAMPLES)
            rows += _write(blobs, entries, split, number, images[part], labels[part])
    entries[INDEX_NAME] = blobs.put(write_index([pa.Table.from_pylist(rows, schema=SCHEMA)]))
    images, labels = splits["train"]
    counts = np.bincount(labels, minlength=num_classes)
    weights = len(labels) / (num_classes * np.maximum(counts, 1))
    scaled = images.reshape(-1, images.shape[-1]) / 255.0
    size, channels = images.shape[1], images.shape[-1]
    return ShardsRef(
        tree=Tree.write(blobs, entries),
        snapshot="sha256:" + "0" * 64,
        classes=tuple(f"class-{label}" for label in range(num_classes)),
        image_size=size,
        stored_size=size,
        channels=3 if channels == 3 else 1,
        mean=tuple(float(value) for value in scaled.mean(axis=0)),
        std=tuple(float(value) for value in scaled.std(axis=0)),
        splits={split: len(labels) for split, (_, labels) in splits.items()},
        class_counts=tuple(int(count) for count in counts),
        class_weights=tuple(float(weight) for weight in weights),
    )


def striped_images(
    num: int, *, num_classes: int = 4, size: int = 8, channels: int = 1, seed: int = 0
) -> Arrays:
    """Learnable noise: a class is the direction and the phase of stripes. uint8 [n, S, S, C] and labels [n]."""
    random = np.random.default_rng(seed)
    labels = np.arange(num, dtype=np.int64) % num_classes
    grid = np.arange(size)
    angles = np.pi * labels / num_classes
    waves = np.sin(
        (np.cos(angles)[:, None, None] * grid[:, None] + np.sin(angles)[:, None, None] * grid) * 1.5
        + random.uniform(0, 2 * np.pi, num)[:, None, None]
    )
    pixels = 128 + 70 * waves + random.normal(0, 30, waves.shape)
    images = np.repeat(pixels[..., None], channels, axis=-1).clip(0, 255).astype(np.uint8)
    order = random.permutation(num)
    return images[order], labels[order]


def striped_shards(
    blobs: Blobs, *, train: int = 96, val: int = 32, test: int = 32, **options: int
) -> ShardsRef:
    sizes: dict[Split, int] = {"train": train, "val": val, "test": test}
    splits = {
        split: striped_images(num, seed=seed, **options) for seed, (split, num) in enumerate(sizes.items())
    }
    return make_shards(blobs, splits, options.get("num_classes", 4))


def _write(
    blobs: Blobs,
    entries: dict[str, tuple[str, int]],
    split: Split,
    number: int,
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
) -> list[dict[str, Any]]:
    name = f"shards/{split}-{number:05d}.tar"
    keys = [
        hashlib.sha256(f"{split}/{number}/{place}".encode()).hexdigest()[:20] for place in range(len(images))
    ]
    samples = [
        Sample(key, int(label), npy_header(image.shape) + image.tobytes())
        for key, label, image in zip(keys, labels, images, strict=True)
    ]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "shard.tar")
        places = write_shard(path, samples, "npy")
        entries[name] = digest, size = blobs.put(path)
    assert all(length > NPY_HEADER_BYTES for _, length in places)
    return [
        {
            "split": split,
            "shard": name,
            "shard_digest": digest,
            "shard_bytes": size,
            "offset": offset,
            "length": length,
            "format": "npy",
            "label": sample.label,
            "key": sample.key,
            "source": f"{split}/{number}/{place}.png",
            "height": images.shape[1],
            "width": images.shape[2],
            "group": sample.key,
        }
        for place, (sample, (offset, length)) in enumerate(zip(samples, places, strict=True))
    ]
