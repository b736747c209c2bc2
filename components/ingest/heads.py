"""`datasets/<name>.json`: the latest snapshot of a data set, which the next one goes on from.

One head for each line of snapshots (settings of the split). A head says what listing, settings and code it came from,
so that an unchanged source leads to the same key, and thus to the published record, at once. It is moved by
compare-and-swap before the record is published: a kill in between is repaired by the rerun, which finds the same
listing in the head, hence the same parent and key, and computes the same snapshot again.
"""

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from components.common.canonical import Json, canonical_json, digest_json
from components.common.errors import StoreError
from components.common.refs import SnapshotRef, parse_ref
from components.common.store.base import NotFoundError, Store
from components.ingest.config import IngestConfig

VERSION = 1


@dataclass(frozen=True, slots=True)
class Head:
    """The end of one line of snapshots."""

    listing: str
    """Digest of the source's listing."""
    basis: str
    """Digest of the settings, the code and the decoder."""
    parent: str | None
    """Tree of the snapshot before this one."""
    snapshot: dict[str, Any]
    """The `SnapshotRef`, as JSON."""

    def ref(self) -> SnapshotRef:
        ref = parse_ref(self.snapshot, where="datasets/")
        assert isinstance(ref, SnapshotRef)
        return ref


def dataset_name(config: IngestConfig) -> str:
    """The name that a snapshot carries: as set, or made from the last part of the source's name."""
    if config.dataset is not None:
        return config.dataset
    last = (config.source or "").rstrip("/").rpartition("/")[2]
    if last in {"", ".", ".."}:
        last = Path(config.source or ".").resolve().name
    stem = re.sub(r"\.(csv|zip|tar|tgz|tar\.\w+)$", "", last.lower())
    return re.sub(r"[^a-z0-9]+", "-", stem).strip("-")[:40].strip("-") or "dataset"


def pointer_name(config: IngestConfig) -> str:
    """Object name of the pointer. Two sources of one name are told apart by a digest of the whole."""
    name = dataset_name(config)
    if config.dataset is None:
        source = config.source or ""
        if not source.startswith("s3://"):
            source = str(Path(source.removeprefix("file://")).expanduser().resolve())
        name += "-" + hashlib.sha256(source.rstrip("/").encode("utf-8", "surrogateescape")).hexdigest()[:10]
    return f"datasets/{name}.json"


def line_of(config: IngestConfig) -> str:
    """Which line of snapshots these settings continue: another cut of the splits is another line."""
    return digest_json(config.split.key_fields())


def read_heads(store: Store, name: str) -> tuple[dict[str, Head], str | None]:
    """Line → head, and the pointer's version tag (None where there is none yet)."""
    try:
        data, tag = store.read(name)
    except NotFoundError:
        return {}, None
    try:
        value = json.loads(data)
        if value["version"] != VERSION:
            raise StoreError(
                "a data set's pointer of an unknown version",
                where=f"{store.url}/{name}",
                expected=f"version {VERSION}",
                found=f"version {value['version']!r}",
                todo="it was written by another release of Conveyor: upgrade this one",
            )
        return {line: Head(**head) for line, head in value["heads"].items()}, tag
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreError(
            "a data set's pointer is damaged",
            where=f"{store.url}/{name}",
            found=repr(error),
            todo="remove it: the next ingest starts a new line of snapshots",
        ) from error


def move_head(store: Store, name: str, line: str, new: Head, *, anew: bool = False) -> bool:
    """Make `new` the head if it goes on from the present one, repeats it, or starts `anew`; False where another
    ingest got there first."""
    while True:
        heads, tag = read_heads(store, name)
        now = heads.get(line)
        if now == new:
            return True
        if now is not None and not anew and now.ref().tree not in {new.parent, new.ref().tree}:
            return False
        heads[line] = new
        value: Json = {"version": VERSION, "heads": {key: asdict(head) for key, head in heads.items()}}
        if store.swap(name, canonical_json(value), tag=tag):
            return True
