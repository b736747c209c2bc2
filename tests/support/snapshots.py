"""Snapshots made by hand: what ingest would publish for images that a test holds in memory."""

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from components.common.blobs import Blobs
from components.common.refs import SnapshotRef, Split
from components.common.tar import BLOCK, END, tar_header
from components.common.trees import Tree


@dataclass(frozen=True)
class Item:
    """One accepted image."""

    data: bytes
    label: int
    split: Split
    source: str = ""


def write_snapshot(
    blobs: Blobs,
    items: Sequence[Item],
    classes: Sequence[str],
    *,
    channels: int,
    median: tuple[int, int],
    per_pack: int = 50,
) -> SnapshotRef:
    """Pack the items in the order given and publish packs and manifest; `median` is (height, width)."""
    entries: dict[str, tuple[str, int]] = {}
    rows: list[dict[str, Any]] = []
    for start in range(0, len(items), per_pack):
        members = items[start : start + per_pack]
        pack, places = _pack(members)
        digest, size = blobs.put(pack)
        name = digest.removeprefix("sha256:")
        entries[f"packs/{name}.tar"] = (digest, size)
        for number, (item, offset) in enumerate(zip(members, places, strict=True), start):
            with Image.open(io.BytesIO(item.data)) as image:
                width, height = image.size
            rows.append(
                {
                    "source": item.source or f"{classes[item.label]}/{number:05d}",
                    "digest": "sha256:" + hashlib.sha256(item.data).hexdigest(),
                    "pack": name,
                    "offset": offset,
                    "length": len(item.data),
                    "label": item.label,
                    "height": height,
                    "width": width,
                    "group": number,
                    "split": item.split,
                    "status": "accepted",
                }
            )
    bad: dict[str, Any] = {
        "source": "bad/one.png",
        "digest": None,
        "pack": None,
        "status": "quarantined",
        "split": None,
    }
    columns = {name: [row.get(name) for row in [*rows, bad]] for name in rows[0]}
    columns["label"][-1] = -1
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    entries["manifest.parquet"] = blobs.put(sink.getvalue())
    splits: dict[Split, int] = {"train": 0, "val": 0, "test": 0}
    for item in items:
        splits[item.split] += 1
    return SnapshotRef(
        tree=Tree.write(blobs, entries),
        dataset="test",
        classes=tuple(classes),
        num_accepted=len(items),
        num_quarantined=1,
        num_duplicates=0,
        reasons={"corrupt": 1},
        splits=splits,
        channels=3 if channels == 3 else 1,
        median_height=median[0],
        median_width=median[1],
    )


def _pack(items: Sequence[Item]) -> tuple[bytes, list[int]]:
    parts, places, size = [], [], 0
    for item in items:
        member = tar_header(hashlib.sha256(item.data).hexdigest(), len(item.data)) + item.data
        member += bytes(-len(member) % BLOCK)
        parts.append(member)
        places.append(size + BLOCK)
        size += len(member)
    return b"".join(parts) + END, places
