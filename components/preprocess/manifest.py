"""The accepted images of a snapshot, in the order in which shards hold them."""

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from components.common.blobs import Blobs
from components.common.errors import InputError
from components.common.refs import SPLITS, SnapshotRef
from components.common.trees import Tree
from components.data.shards import KEY_DIGITS

COLUMNS = (
    "digest", "pack", "offset", "length", "source", "label", "height", "width", "group", "split", "status"
)  # fmt: skip


@dataclass(frozen=True)
class Images:
    """n accepted images, sorted by split and then by digest: a cryptographic hash mixes the classes well."""

    split: NDArray[np.int8]
    """Number of the split in `SPLITS`."""
    key: NDArray[np.bytes_]
    """ASCII; first 20 hex digits of the image's digest."""
    pack: NDArray[np.int32]
    """Number of the pack in `packs`."""
    packs: tuple[str, ...]
    """Digests of the packs that hold accepted images."""
    offset: NDArray[np.int64]
    length: NDArray[np.int64]
    label: NDArray[np.int64]
    height: NDArray[np.int64]
    """As ingest saw it; used to bound what is decoded at once."""
    width: NDArray[np.int64]
    source: NDArray[np.object_]
    group: NDArray[np.object_]

    def __len__(self) -> int:
        return len(self.label)


def read_images(snapshot: SnapshotRef, blobs: Blobs) -> Images:
    """All accepted images that belong to a split. Raises `InputError` where none is for training."""
    tree = Tree.read(blobs, snapshot.tree)
    table = pq.read_table(
        io.BytesIO(blobs.read(tree["manifest.parquet"].digest)),
        columns=list(COLUMNS),
        filters=[("status", "=", "accepted"), ("split", "in", list(SPLITS))],
    )
    columns: dict[str, list[Any]] = {name: table[name].to_pylist() for name in COLUMNS}
    split = np.array([SPLITS.index(name) for name in columns["split"]], dtype=np.int8)
    if not (split == SPLITS.index("train")).any():
        raise InputError(
            "the snapshot has no image in its training split",
            where=f"dataset {snapshot.dataset}",
            expected="at least one accepted image for training",
            found=", ".join(f"{name}: {num}" for name, num in sorted(snapshot.splits.items())) or "no split",
            todo="see why images were quarantined in the report, or change ingest.split",
        )
    digest = np.array([value.removeprefix("sha256:") for value in columns["digest"]], dtype="S64")
    names, pack = np.unique(np.array(columns["pack"], dtype=np.str_), return_inverse=True)
    order = np.lexsort((digest, split))

    def numbers(name: str) -> NDArray[np.int64]:
        return np.array(columns[name], dtype=np.int64)[order]

    def objects(values: list[Any]) -> NDArray[np.object_]:
        out = np.empty(len(values), dtype=np.object_)
        out[:] = values
        return out[order]

    return Images(
        split=split[order],
        key=digest[order].astype(f"S{KEY_DIGITS}"),
        pack=pack[order].astype(np.int32),
        packs=tuple(tree[f"packs/{name}.tar"].digest for name in names.tolist()),
        offset=numbers("offset"),
        length=numbers("length"),
        label=numbers("label"),
        height=numbers("height"),
        width=numbers("width"),
        source=objects(columns["source"]),
        group=objects([None if value is None else str(value) for value in columns["group"]]),
    )
