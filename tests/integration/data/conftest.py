"""Two small data sets, preprocessed once: tiny raw grey images, and colour JPEGs."""

from dataclasses import dataclass

import pytest

from components.common.blobs import Blobs
from components.common.refs import ShardsRef
from components.common.store import open_store
from components.preprocess.config import PreprocessConfig
from support.datasets import make_shards


@dataclass(frozen=True)
class DataSet:
    shards: ShardsRef
    blobs: Blobs


@pytest.fixture(scope="session")
def raw(tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    """100 grey images of 16 × 16, in many small shards."""
    store = open_store(str(tmp_path_factory.mktemp("raw")))
    config = PreprocessConfig(num_workers=1, shard_bytes=2**12)
    return DataSet(
        make_shards(store, 100, size=(16, 16), colour=False, fmt="PNG", config=config), Blobs(store)
    )


@pytest.fixture(scope="session")
def jpeg(tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    """50 colour images of 112 × 140, seen at 96 and stored at 110."""
    store = open_store(str(tmp_path_factory.mktemp("jpeg")))
    config = PreprocessConfig(num_workers=1, shard_bytes=2**16)
    return DataSet(
        make_shards(store, 50, size=(112, 140), colour=True, fmt="JPEG", config=config), Blobs(store)
    )


@pytest.fixture(scope="session")
def raw_large(tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    """The same, stored as pixels."""
    store = open_store(str(tmp_path_factory.mktemp("raw_large")))
    config = PreprocessConfig(num_workers=1, shard_bytes=2**18, format="raw")
    return DataSet(
        make_shards(store, 50, size=(112, 140), colour=True, fmt="JPEG", config=config), Blobs(store)
    )


@pytest.fixture(params=["raw", "raw_large", "jpeg"])
def dataset(request: pytest.FixtureRequest) -> DataSet:
    made: DataSet = request.getfixturevalue(request.param)
    return made
