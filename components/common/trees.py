"""Trees: one blob that lists everything a result consists of, as a container image's manifest does."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from components.common.blobs import DIGEST, Blobs
from components.common.canonical import canonical_json
from components.common.errors import StoreError
from components.common.store.base import UnreadableError

VERSION = 1
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+=-]*(/[A-Za-z0-9_][A-Za-z0-9._+=-]*)*")


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of a result."""

    digest: str
    size_bytes: int


@dataclass(frozen=True)
class Tree:
    """Name → entry, of one result. Names are relative and `/`-separated, such as `packs/<hex>.tar`."""

    entries: dict[str, Entry] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Entry:
        """The entry of that name. Raises `StoreError` that lists what there is."""
        try:
            return self.entries[name]
        except KeyError:
            some = ", ".join(sorted(self.entries)[:8]) + (", ..." if len(self.entries) > 8 else "")
            raise StoreError(f"the tree has no entry {name}", expected=f"one of {some}") from None

    def __contains__(self, name: object) -> bool:
        return name in self.entries

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    @staticmethod
    def write(blobs: Blobs, entries: Mapping[str, tuple[str, int]]) -> str:
        """Store the tree of `entries` (name → digest and size in bytes); returns its digest."""
        data = encode(entries)
        digest, _ = blobs.put(data)
        return digest

    @staticmethod
    def read(blobs: Blobs, digest: str) -> "Tree":
        """Raises `NotFoundError`, and `UnreadableError` for a blob that is no tree or of an unknown version."""
        return decode(blobs.read(digest), where=f"tree {digest}")


def encode(entries: Mapping[str, tuple[str, int]]) -> bytes:
    """The canonical bytes of a tree, sorted by name: equal trees have equal digests."""
    for name, (digest, size) in entries.items():
        if not NAME.fullmatch(name) or not DIGEST.fullmatch(digest) or size < 0:
            raise StoreError(
                "this cannot be an entry of a tree", found=f"{name!r}: {digest!r}, {size!r} bytes"
            )
    return canonical_json(
        {
            "conveyor": "tree",
            "version": VERSION,
            "entries": [
                {"name": name, "digest": entries[name][0], "size_bytes": entries[name][1]}
                for name in sorted(entries)
            ],
        }
    )


def decode(data: bytes, *, where: str) -> Tree:
    """The tree in `data`. Raises `UnreadableError` that names `where`."""
    try:
        value = json.loads(data)
    except ValueError as error:
        raise UnreadableError("this blob is not a tree", where=where, found=str(error)) from error
    if not isinstance(value, dict) or value.get("conveyor") != "tree":
        raise UnreadableError("this blob is not a tree", where=where)
    if value.get("version") != VERSION:
        raise UnreadableError(
            "a tree of an unknown version",
            where=where,
            expected=f"version {VERSION}",
            found=f"version {value.get('version')!r}",
            todo="it was written by another release of Conveyor: upgrade this one",
        )
    try:
        entries = {str(e["name"]): Entry(str(e["digest"]), int(e["size_bytes"])) for e in value["entries"]}
        # What was written by this program is canonical; anything else was tampered with.
        if encode({name: (entry.digest, entry.size_bytes) for name, entry in entries.items()}) != data:
            raise ValueError("not in canonical form")
    except (KeyError, TypeError, ValueError, StoreError) as error:
        raise UnreadableError("a damaged tree", where=where, found=str(error)) from error
    return Tree(entries)
