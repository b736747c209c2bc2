"""Training from a real S3 server through a cache that is far smaller than the data."""

from pathlib import Path

import pytest
import torch

from components.common.blobs import Blobs
from components.common.store import open_store
from components.data.augment import AugmentConfig
from components.data.index import read_index
from components.data.loaders import Batch, CacheConfig, open_training_loader
from components.preprocess.config import PreprocessConfig
from support.datasets import make_shards

pytestmark = pytest.mark.integration


def test_s3_through_a_small_cache_equals_the_local_store(s3_store_url: str, tmp_path: Path) -> None:
    config = PreprocessConfig(num_workers=1, shard_bytes=2**12)
    found: list[list[Batch]] = []
    for url in (s3_store_url, str(tmp_path / "store")):
        store = open_store(url)
        shards = make_shards(store, 120, size=(16, 16), colour=True, fmt="PNG", config=config)
        index = read_index(shards, Blobs(store), "train")
        sizes = sorted((shard.size_bytes for shard in index.shards), reverse=True)
        bound = sum(sizes[:9])
        assert bound < sum(sizes) / 3
        cache = CacheConfig(max_bytes=bound, folder=str(tmp_path / "cache"))
        with open_training_loader(
            shards,
            Blobs(store),
            augmentation=AugmentConfig(),
            seed=1,
            global_batch=16,
            rank=0,
            world_size=1,
            start_step=3,
            stop_step=15,
            cache=cache,
        ) as batches:
            found.append(list(batches))
        if url == s3_store_url:
            assert 0 < sum(p.stat().st_size for p in (tmp_path / "cache").rglob("*.tar")) <= bound
    for remote, local in zip(*found, strict=True):
        assert remote.indices.tolist() == local.indices.tolist()
        assert torch.equal(remote.images, local.images)
