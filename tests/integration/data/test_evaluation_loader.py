"""Evaluation sees each sample once; prediction sees the same pixels, to the last bit."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from components.common.blobs import Blobs
from components.common.store import open_store
from components.data.index import read_index
from components.data.loaders import Batch, CacheConfig, open_evaluation_loader, read_labels
from components.data.single import decode_and_resize, evaluation_view
from components.preprocess.config import PreprocessConfig
from support.datasets import make_items, make_snapshot, preprocess_snapshot


def load(dataset: Any, **changes: Any) -> list[Batch]:
    settings: dict[str, Any] = {"split": "val", "batch_size": 4, "backend": "dali", "num_threads": 1}
    with open_evaluation_loader(dataset.shards, dataset.blobs, **(settings | changes)) as batches:
        return list(batches)


@pytest.mark.parametrize("backend", ["dali", "torchvision"])
@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_each_sample_once_in_index_order(dataset: Any, backend: str, split: str) -> None:
    batches = load(dataset, split=split, backend=backend)
    num = dataset.shards.splits[split]
    assert np.concatenate([batch.indices for batch in batches]).tolist() == list(range(num))
    labels = torch.cat([batch.labels for batch in batches]).numpy()
    np.testing.assert_array_equal(labels, read_labels(dataset.shards, dataset.blobs, split))  # type: ignore[arg-type]
    assert all(len(batch.labels) for batch in batches)
    assert all(batch.images.is_contiguous() for batch in batches)


@pytest.mark.parametrize("world_size", [2, 3, 8, 40])
def test_ranks_together_see_the_split(dataset: Any, world_size: int) -> None:
    whole = load(dataset)
    ranks = [batch for rank in range(world_size) for batch in load(dataset, rank=rank, world_size=world_size)]
    assert all(len(batch.labels) for batch in ranks)
    assert torch.equal(torch.cat([b.images for b in ranks]), torch.cat([b.images for b in whole]))


def test_backends_threads_and_batches_give_the_same_bits(dataset: Any) -> None:
    expected = torch.cat([batch.images for batch in load(dataset)])
    for changes in ({"backend": "torchvision"}, {"num_threads": 3}, {"batch_size": 1}, {"batch_size": 100}):
        assert torch.equal(torch.cat([batch.images for batch in load(dataset, **changes)]), expected), changes


def test_a_small_cache_gives_the_same_bits(dataset: Any, tmp_path: Path) -> None:
    index = read_index(dataset.shards, dataset.blobs, "train")
    bound = 2 * max(shard.size_bytes for shard in index.shards)
    cache = CacheConfig(max_bytes=bound, folder=str(tmp_path), force=True)
    one, two = load(dataset, split="train"), load(dataset, split="train", cache=cache, batch_size=7)
    assert torch.equal(torch.cat([b.images for b in one]), torch.cat([b.images for b in two]))


@pytest.mark.parametrize(
    ("size", "colour", "fmt", "config"),
    [
        ((8, 8), False, "PNG", PreprocessConfig(num_workers=1)),
        ((40, 30), True, "JPEG", PreprocessConfig(num_workers=1)),
        ((150, 120), True, "JPEG", PreprocessConfig(num_workers=1)),
        ((120, 150), True, "PNG", PreprocessConfig(num_workers=1, image_size=96, format="raw")),
        ((150, 150), False, "JPEG", PreprocessConfig(num_workers=1, image_size=96, stored_size=96)),
    ],
)
def test_prediction_equals_evaluation_to_the_last_bit(
    tmp_path: Path, size: tuple[int, int], colour: bool, fmt: str, config: PreprocessConfig
) -> None:
    """From the original files, through `decode_and_resize` and `evaluation_view`, for the whole test split."""
    store = open_store(str(tmp_path))
    items = make_items(60, size=size, colour=colour, fmt=fmt)
    shards = preprocess_snapshot(store, make_snapshot(store, items, colour=colour, median=size), config)
    with open_evaluation_loader(shards, Blobs(store), split="test", batch_size=4) as batches:
        evaluated = torch.cat([batch.images for batch in batches]).numpy()
    sources = read_index(shards, Blobs(store), "test").source
    by_source = {
        f"class_{item.label}/{number:05d}": item.data
        for number, item in enumerate(items)
        if item.split == "test"
    }
    assert len(sources) == len(by_source) == 6
    arrays = decode_and_resize(
        [by_source[source] for source in sources],
        stored_size=shards.stored_size,
        image_size=shards.image_size,
        channels=shards.channels,
    )
    predicted = evaluation_view(arrays, image_size=shards.image_size, mean=shards.mean, std=shards.std)
    np.testing.assert_array_equal(predicted, evaluated)
