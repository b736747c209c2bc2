"""A file store, and ingest run as every runner runs it."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from components.common.blobs import Blobs
from components.common.config import load_config, parse_override
from components.common.progress import make_reporter
from components.common.refs import SnapshotRef
from components.common.step import Outcome, execute
from components.common.store import Store, open_store
from components.common.trees import Tree
from components.ingest import run
from components.ingest.config import IngestConfig

Ingest = Callable[..., Outcome]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "store"))


@pytest.fixture
def ingest(store: Store) -> Ingest:
    """`ingest(source, "key=value", …)` → the outcome."""

    def call(source: Path | str, *settings: str, into: Store | None = None) -> Outcome:
        given = ["num_workers=2", "max_quarantined_share=0.5", *settings]
        config = load_config(IngestConfig, None, [parse_override(text) for text in given])
        config = config.model_copy(update={"source": str(source)})
        return execute(run, config, run.Inputs(), into or store, make_reporter(quiet=True))

    return call


@pytest.fixture
def rows(store: Store) -> Callable[..., dict[str, dict[str, Any]]]:
    """Manifest of a snapshot: name → row."""

    def read(ref: Any, of: Store | None = None) -> dict[str, dict[str, Any]]:
        assert isinstance(ref, SnapshotRef)
        blobs = Blobs(of or store)
        data = blobs.read(Tree.read(blobs, ref.tree)["manifest.parquet"].digest)
        return {row["source"]: row for row in pq.read_table(io.BytesIO(data)).to_pylist()}

    return read
