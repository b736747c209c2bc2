"""The snapshot's table: one row for each entry of the source, in the order of names."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from components.common.blobs import Blobs
from components.common.trees import Tree
from components.ingest.contents import Contents
from components.ingest.features import THUMB_BYTES

NAME = "manifest.parquet"
SUMMARY = "summary.json"
ROWS_AT_ONCE = 1 << 16
SCHEMA = pa.schema(
    [
        pa.field("source", pa.string(), nullable=False),
        pa.field("digest", pa.string()),
        pa.field("pack", pa.string()),
        pa.field("offset", pa.int64()),
        pa.field("length", pa.int64()),
        pa.field("label", pa.int32(), nullable=False),
        pa.field("class_name", pa.string()),
        pa.field("format", pa.string()),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("channels", pa.int8()),
        pa.field("size_bytes", pa.int64(), nullable=False),
        pa.field("phash", pa.uint64()),
        pa.field("pixels", pa.string()),
        pa.field("thumb", pa.binary(THUMB_BYTES)),
        pa.field("group", pa.int64()),
        pa.field("split", pa.string()),
        pa.field("status", pa.string(), nullable=False),
        pa.field("reason", pa.string()),
        pa.field("detail", pa.string()),
    ]
)
# Reasons that other images decide, or the settings; the rest is told by the image's own bytes.
DERIVED_REASONS = frozenset({"label_conflict", "bridge", "no_class"})


@dataclass(slots=True)
class Row:
    """One entry of the source while the step works."""

    name: str
    class_name: str | None
    size_bytes: int
    digest: str | None = None
    content: int = -1
    """Position in `Contents`, −1 for a bad image."""
    status: str = "accepted"
    reason: str | None = None
    detail: str | None = None
    group: int | None = None
    split: str | None = None

    def quarantine(self, reason: str, detail: str | None = None) -> None:
        self.status, self.reason, self.detail = "quarantined", reason, detail or None


@dataclass
class Snapshot:
    """A snapshot as it is read back: the rows and what they know about their images."""

    tree: Tree
    rows: dict[str, Row] = field(default_factory=dict)
    """By name."""
    contents: Contents = field(default_factory=Contents)
    summary: dict[str, Any] = field(default_factory=dict)


def _to_batch(rows: Sequence[Row], contents: Contents, index: Mapping[str, int]) -> pa.RecordBatch:
    thumbs = contents.thumbs([row.content for row in rows if row.content >= 0])
    thumb = iter(thumbs)
    columns: dict[str, list[Any]] = {name: [] for name in SCHEMA.names}
    for row in rows:
        c, known = row.content, row.content >= 0
        packed = row.status == "accepted"
        values = (
            row.name,
            row.digest,
            contents.pack[c] if packed else None,
            contents.offset[c] if packed else None,
            contents.size_bytes[c] if packed else None,
            index.get(row.class_name or "", -1),
            row.class_name,
            contents.format[c] if known else None,
            contents.width[c] if known else None,
            contents.height[c] if known else None,
            contents.channels[c] if known else None,
            row.size_bytes,
            contents.phash[c] if known else None,
            contents.pixels[c] if known else None,
            next(thumb).tobytes() if known else None,
            row.group,
            row.split,
            row.status,
            row.reason,
            row.detail,
        )
        for name, value in zip(SCHEMA.names, values, strict=True):
            columns[name].append(value)
    return pa.record_batch([pa.array(columns[f.name], f.type) for f in SCHEMA], schema=SCHEMA)


def write_manifest(rows: Sequence[Row], contents: Contents, classes: tuple[str, ...], path: Path) -> None:
    """Write `rows`, which are sorted by name. The same rows give the same bytes (one pyarrow build; no clock in it)."""
    index = {name: i for i, name in enumerate(classes)}
    with pq.ParquetWriter(path, SCHEMA, compression="zstd", store_schema=False) as writer:
        for start in range(0, len(rows), ROWS_AT_ONCE):
            writer.write_batch(_to_batch(rows[start : start + ROWS_AT_ONCE], contents, index))


def read_snapshot(blobs: Blobs, digest: str, scratch: Path) -> Snapshot:
    """The snapshot whose tree is `digest`, its manifest only; no image is read."""
    tree = Tree.read(blobs, digest)
    path = scratch / "parent.parquet"
    blobs.fetch(tree[NAME].digest, path)
    snapshot = Snapshot(tree, summary=json.loads(blobs.read(tree[SUMMARY].digest)))
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=1 << 14):
            columns = [batch.column(name).to_pylist() for name in SCHEMA.names]
            for values in zip(*columns, strict=True):
                _read_row(snapshot, dict(zip(SCHEMA.names, values, strict=True)))
    path.unlink()
    return snapshot


def _read_row(snapshot: Snapshot, value: dict[str, Any]) -> None:
    row = Row(value["source"], value["class_name"], value["size_bytes"], value["digest"])
    if value["pixels"] is not None:
        contents = snapshot.contents
        row.content = contents.add(
            value["digest"],
            value["format"],
            height=value["height"],
            width=value["width"],
            size_bytes=value["size_bytes"],
            channels=value["channels"],
            pixels=value["pixels"],
            phash=value["phash"],
            thumb=value["thumb"],
        )
        if value["pack"] is not None:
            contents.pack[row.content], contents.offset[row.content] = value["pack"], value["offset"]
    row.status, row.reason, row.detail = value["status"], value["reason"], value["detail"]
    row.group, row.split = value["group"], value["split"]
    snapshot.rows[row.name] = row
