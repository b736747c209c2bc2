"""What there is to do, before anything is read: the listing, the parent, and what is known about each file."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from components.common.blobs import Blobs
from components.common.canonical import digest_json
from components.common.code import code_version
from components.common.errors import InputError
from components.common.store.base import NotFoundError, Store
from components.ingest import heads
from components.ingest.config import IngestConfig
from components.ingest.pixels import dali_version
from components.ingest.sources import Source, open_source
from components.ingest.sources.base import Entry

CHECKS_VERSION = 1
"""Raise it when an image that was accepted may now be refused, or is described differently."""


@dataclass(frozen=True)
class Plan:
    """The state of the source and of the data set's pointer, read once."""

    source: Source
    listing: str
    pointer: str
    line: str
    basis: str
    parent: str | None
    """Tree of the snapshot to go on from."""


def make_plan(config: IngestConfig, store: Store) -> Plan:
    """Raises `InputError` where the source cannot be listed or holds nothing."""
    source = open_source(config, store)
    listing = source.fingerprint()
    pointer, line = heads.pointer_name(config), heads.line_of(config)
    settings: dict[str, Any] = {
        "config": config.key_fields(),
        "code": code_version("components.ingest"),
        "checks": checks(config),
    }
    basis = digest_json(settings)
    parent = None
    if config.parent == "auto":
        found, _ = heads.read_heads(store, pointer)
        parent = _parent_of(found.get(line), listing, basis, Blobs(store))
    return Plan(source, listing, pointer, line, basis, parent)


def _parent_of(head: heads.Head | None, listing: str, basis: str, blobs: Blobs) -> str | None:
    """An unchanged source asks again for what its head came from, so that the key is the same.

    Where garbage collection has taken that, the head itself is the parent, and gives the same snapshot again.
    """
    if head is None:
        return None
    unchanged = (head.listing, head.basis) == (listing, basis)
    if unchanged and (head.parent is None or blobs.exists(head.parent)):
        return head.parent
    tree = head.ref().tree
    return tree if blobs.exists(tree) else None


def checks(config: IngestConfig) -> dict[str, Any]:
    """What the verdict on one image depends on; a parent's verdicts hold only under the same."""
    return {
        "version": CHECKS_VERSION,
        "dali": dali_version(),
        "max_pixels": config.max_pixels,
        "max_file_bytes": config.max_file_bytes,
        "min_side": config.min_side,
    }


def refuse_nothing(config: IngestConfig, entries: list[Entry], ignored: dict[str, int]) -> None:
    """Raises `InputError` for a source without a single candidate."""
    if entries:
        return
    found = ", ".join(f"{num} × {why}" for why, num in sorted(ignored.items())) or "nothing at all"
    raise InputError(
        "the source holds no images",
        where=config.source,
        expected="files ending in .jpg, .png, .webp, .bmp or .tiff",
        found=found,
        todo="check the path given as the source",
    )


# What stands here may be lost: a file whose size and stamp are not known is read again.
def cache_name(pointer: str, tree: str) -> str:
    stem = pointer.removeprefix("datasets/").removesuffix(".json")
    return f"caches/ingest/{stem}-{tree.removeprefix('sha256:')[:20]}.parquet"


def write_stamps(store: Store, name: str, entries: list[Entry], scratch: Path) -> None:
    """Note under what size and stamp each file was seen, which no content-addressed payload may hold."""
    table = pa.table(
        {
            "name": [entry.name for entry in entries],
            "size_bytes": pa.array([entry.size_bytes for entry in entries], pa.int64()),
            "stamp": [entry.stamp for entry in entries],
        }
    )
    path = scratch / "stamps.parquet"
    pq.write_table(table, path, compression="zstd")
    store.put(name, path)
    path.unlink()


def read_stamps(store: Store, name: str, scratch: Path) -> dict[str, tuple[int, str]]:
    """Name → (size in bytes, stamp); empty where nothing is noted."""
    path = scratch / "stamps.parquet"
    try:
        with store.open(name) as stream, path.open("wb") as file:
            while chunk := stream.read(1 << 20):
                file.write(chunk)
        table = pq.read_table(path)
        names, sizes, stamps = (table.column(c).to_pylist() for c in ("name", "size_bytes", "stamp"))
    except (NotFoundError, pa.ArrowInvalid, KeyError):
        return {}
    return dict(zip(names, zip(sizes, stamps, strict=True), strict=True))
