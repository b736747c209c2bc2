"""The small interface that every object store fulfils (tests/integration/store/test_conformance.py is its contract)."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from components.common.errors import StoreError

NO_BUCKET = "there is no such bucket"


class NotFoundError(StoreError):
    """No object has that name."""


class UnreadableError(StoreError):
    """What is there was read, and is not what it has to be: damaged, or written by another release."""


class DigestMismatchError(UnreadableError):
    """What was read or written is not what its digest says."""


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """One stored object: its key (relative to the store's root, `/`-separated), size and write time."""

    key: str
    size_bytes: int
    modified: float
    """Seconds since the epoch, by the store's own clock."""


class Store(ABC):
    """Objects by key. Keys are relative, `/`-separated, of `[A-Za-z0-9._=-]` segments; none is empty or begins with `.`.
    A key that is also the beginning of others (`a` and `a/b`) does not fit into a file store.

    Every call retries what can succeed later (time-outs, resets, throttling, 5xx, truncated bodies) with jittered
    back-off, and raises `StoreError` with the cure for what cannot. A write is visible whole or not at all.
    """

    url: str
    """Where the store is, as the user gave it, without credentials."""

    @abstractmethod
    def put(self, key: str, source: bytes | Path | BinaryIO, *, digest: str | None = None) -> None:
        """Write an object, replacing any. Streams files; a `digest` that does not fit the bytes raises
        `DigestMismatchError` and leaves nothing. A `BinaryIO` must be seekable."""

    @abstractmethod
    def open(
        self, key: str, *, offset: int = 0, length: int | None = None
    ) -> AbstractContextManager[BinaryIO]:
        """Stream an object, or the range of `length` bytes from `offset`. Raises `NotFoundError`.

        A body that breaks off is continued by a ranged read; never ends early in silence. A range that does not lie
        within the object raises `StoreError`."""

    @abstractmethod
    def read(self, key: str) -> tuple[bytes, str]:
        """A small object whole, and its version tag for `swap`. Raises `NotFoundError`."""

    @abstractmethod
    def create(self, key: str, data: bytes) -> bool:
        """Write only where nothing is yet (`If-None-Match: *`); False where something was. Exactly one of several
        writers gets True; after a retried request the outcome is settled by reading back."""

    @abstractmethod
    def swap(self, key: str, data: bytes, *, tag: str | None) -> bool:
        """Replace an object only while its version tag is still `tag` (None: only while absent); False otherwise."""

    @abstractmethod
    def stat(self, key: str) -> ObjectInfo | None:
        """Size and time of an object, None where there is none."""

    @abstractmethod
    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """All objects whose key begins with `prefix`, in key order, page by page."""

    @abstractmethod
    def touch(self, key: str) -> bool:
        """Set an object's write time to now, its bytes unchanged; False where there is none."""

    @abstractmethod
    def delete(self, key: str) -> None:
        """Remove an object; nothing happens where there is none."""

    @abstractmethod
    def leftovers(self, before: float) -> Iterator[ObjectInfo]:
        """What killed writers left and nobody sees (temporary files, unfinished uploads), last written `before`."""

    @abstractmethod
    def remove_leftover(self, info: ObjectInfo) -> None:
        """Remove one of `leftovers`."""

    @abstractmethod
    def check(self) -> None:
        """Probe the store (reachable, writable, honours both conditional headers); raises with the cure."""

    def local_path(self, key: str) -> Path | None:
        """Where the object lies on this machine's disk, for memory mapping; None for a remote store. Read only."""
        return None
