"""The index of a shards tree: where each sample lies, as numpy columns."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from components.common.blobs import Blobs
from components.common.errors import StoreError
from components.common.refs import SPLITS, ShardsRef, Split
from components.common.trees import Tree

INDEX_NAME = "index.parquet"

SampleFormat = Literal["npy", "jpg", "png"]
"""How a sample's pixels are stored, which is its extension in the tar."""

SCHEMA = pa.schema(
    [
        ("split", pa.string()),
        ("shard", pa.string()),
        ("shard_digest", pa.string()),
        ("shard_bytes", pa.int64()),
        ("offset", pa.int64()),
        ("length", pa.int64()),
        ("format", pa.string()),
        ("label", pa.int32()),
        ("key", pa.string()),
        ("source", pa.string()),
        ("height", pa.int32()),
        ("width", pa.int32()),
        ("group", pa.string()),
    ]
)
"""Columns of `index.parquet`; offset and length in bytes, of the image's payload within its tar."""


@dataclass(frozen=True, slots=True)
class ShardFile:
    """One shard: its name in the tree, its digest, its size."""

    name: str
    digest: str
    size_bytes: int


@dataclass(frozen=True)
class ShardIndex:
    """The samples of one split, in the order in which they lie in its shards. Arrays are [n]."""

    split: Split
    format: SampleFormat
    shards: tuple[ShardFile, ...]
    shard: NDArray[np.int32]
    """Number of the sample's shard within `shards`."""
    offset: NDArray[np.int64]
    length: NDArray[np.int64]
    label: NDArray[np.int64]
    key: NDArray[np.str_]
    source: NDArray[np.object_]
    height: NDArray[np.int64]
    """Pixels of the image as stored."""
    width: NDArray[np.int64]
    sample_id: NDArray[np.uint64]
    """The first 16 hex digits of the key: names the image in the augmentation plan."""

    def __len__(self) -> int:
        return len(self.label)

    @property
    def block_sizes(self) -> tuple[int, ...]:
        """Samples per shard."""
        return tuple(np.bincount(self.shard, minlength=len(self.shards)).tolist())


def read_index(shards: ShardsRef, blobs: Blobs, split: Split) -> ShardIndex:
    """The index of one split. Raises `StoreError` for an index that does not fit its reference."""
    entry = Tree.read(blobs, shards.tree)[INDEX_NAME]
    table = pq.read_table(io.BytesIO(blobs.read(entry.digest)), filters=[("split", "=", split)])
    index = _from_table(table, split)
    if len(index) != shards.splits.get(split, 0):
        raise StoreError(
            f"the index of the {split} split does not fit its reference",
            where=f"{INDEX_NAME} of {shards.tree}",
            expected=f"{shards.splits.get(split, 0)} samples",
            found=f"{len(index)} samples",
        )
    return index


def read_labels(shards: ShardsRef, blobs: Blobs, split: Split) -> NDArray[np.int64]:
    """Labels of a split in index order: int64[n]."""
    return read_index(shards, blobs, split).label


def write_index(tables: Sequence[pa.Table]) -> bytes:
    """The Parquet file of the tables (of `SCHEMA`, one a shard), in the order given."""
    sink = io.BytesIO()
    whole = pa.concat_tables([pa.table({name: [] for name in SCHEMA.names}, schema=SCHEMA), *tables])
    pq.write_table(whole, sink, compression="zstd", row_group_size=1 << 17)
    return sink.getvalue()


def _from_table(table: pa.Table, split: Split) -> ShardIndex:
    names, first, inverse = np.unique(
        np.asarray(table["shard"].to_pylist(), dtype=np.str_), return_index=True, return_inverse=True
    )
    digests, sizes = table["shard_digest"], table["shard_bytes"]
    shards = tuple(
        ShardFile(str(name), digests[int(row)].as_py(), sizes[int(row)].as_py())
        for name, row in zip(names, first, strict=True)
    )
    formats = table["format"].unique().to_pylist()
    if len(formats) > 1:
        raise StoreError("a split holds samples of several formats", found=", ".join(formats))
    key = np.asarray(table["key"].to_pylist(), dtype="U20")
    return ShardIndex(
        split=split,
        format=cast(SampleFormat, formats[0] if formats else "npy"),
        shards=shards,
        shard=inverse.astype(np.int32),
        offset=_column(table, "offset", np.int64),
        length=_column(table, "length", np.int64),
        label=_column(table, "label", np.int64),
        key=key,
        source=np.asarray(table["source"].to_pylist(), dtype=np.object_),
        height=_column(table, "height", np.int64),
        width=_column(table, "width", np.int64),
        sample_id=np.asarray([int(k[:16], 16) for k in key.tolist()], dtype=np.uint64),
    )


def _column(table: pa.Table, name: str, dtype: Any) -> NDArray[Any]:
    column: NDArray[Any] = table[name].to_numpy(zero_copy_only=False)
    return column.astype(dtype)


__all__ = [
    "INDEX_NAME",
    "SPLITS",
    "SampleFormat",
    "ShardFile",
    "ShardIndex",
    "read_index",
    "read_labels",
    "write_index",
]
