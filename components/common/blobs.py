"""Content-addressed blobs: what a digest names is written once, and checked whenever it is read whole."""

import hashlib
import re
import secrets
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

from components.common.canonical import DIGEST_PREFIX, digest_bytes
from components.common.errors import StoreError
from components.common.keep import keep
from components.common.store.base import NotFoundError, Store, UnreadableError
from components.common.store.streams import CHUNK_BYTES, check_digest, chunks, verified

DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
PREFIX = "blobs/"


def blob_key(digest: str) -> str:
    """Where a blob lies: `blobs/<first two hex digits>/<64 hex digits>`. Raises `UnreadableError` for no digest."""
    if not DIGEST.fullmatch(digest):
        raise UnreadableError(
            "this is not a digest", expected="sha256: and 64 hex digits", found=repr(digest[:100])
        )
    name = digest.removeprefix(DIGEST_PREFIX)
    return f"{PREFIX}{name[:2]}/{name}"


class Blobs:
    """The blobs of a store. Safe to use from several threads and processes at once."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def put(self, data: bytes | Path) -> tuple[str, int]:
        """Store bytes or a file, skipped where they are there already. Returns digest and size in bytes."""
        digest, size = digest_file(data) if isinstance(data, Path) else (digest_bytes(data), len(data))
        if not self.keep(digest, size):
            self.store.put(blob_key(digest), data, digest=digest)
        return digest, size

    def keep(self, digest: str, size: int | None = None) -> bool:
        """Rely on an existing blob: it outlives a garbage collection that runs beside. False where it is not there.

        A blob of another size than `size` is the trace of a damaged disk and counts as missing.
        """
        key = blob_key(digest)
        info = self.store.stat(key)
        if info is None or (size is not None and info.size_bytes != size):
            return False
        return keep(self.store, key, info)

    def read(self, digest: str) -> bytes:
        """All bytes of a blob, checked. Raises `NotFoundError`, `DigestMismatchError`."""
        key = blob_key(digest)
        try:
            with self.store.open(key) as stream:
                data = stream.read()
        except NotFoundError:
            raise self._missing(digest) from None
        check_digest(digest_bytes(data), digest, f"{self.store.url}/{key}")
        return data

    def open(
        self, digest: str, offset: int = 0, length: int | None = None
    ) -> AbstractContextManager[BinaryIO]:
        """Stream a blob, or `length` bytes of it from `offset`; the digest is checked at the end of a whole read."""
        return self._open(digest, offset, length)

    @contextmanager
    def _open(self, digest: str, offset: int, length: int | None) -> Iterator[BinaryIO]:
        key = blob_key(digest)
        with ExitStack() as stack:
            try:
                stream = stack.enter_context(self.store.open(key, offset=offset, length=length))
            except NotFoundError:
                raise self._missing(digest) from None
            whole = offset == 0 and length is None
            yield verified(stream, digest, f"{self.store.url}/{key}") if whole else stream

    def exists(self, digest: str) -> bool:
        return self.store.stat(blob_key(digest)) is not None

    def size(self, digest: str) -> int:
        """Size in bytes. Raises `NotFoundError`."""
        info = self.store.stat(blob_key(digest))
        if info is None:
            raise self._missing(digest)
        return info.size_bytes

    def fetch(self, digest: str, path: Path) -> None:
        """Copy a blob to `path`: checked, and there whole or not at all. Raises as `read` does."""
        path.parent.mkdir(parents=True, exist_ok=True)
        temp = path.parent / f".{path.name[:100]}.{secrets.token_hex(8)}.part"
        try:
            with self.open(digest) as stream, temp.open("xb") as file:
                for chunk in chunks(stream):
                    file.write(chunk)
            temp.replace(path)
        except OSError as error:
            raise StoreError(
                "a blob cannot be copied to this disk",
                where=str(path),
                found=str(error),
                todo="free some space there",
            ) from error
        finally:
            temp.unlink(missing_ok=True)

    def local_path(self, digest: str) -> Path | None:
        """Where the blob lies on this machine's disk, for memory mapping; None in a remote store. Read only."""
        return self.store.local_path(blob_key(digest))

    def _missing(self, digest: str) -> NotFoundError:
        return NotFoundError(
            "the store lacks a blob",
            where=f"{self.store.url}/{blob_key(digest)}",
            found=digest,
            todo="'conveyor verify' lists what is missing and which record needs it",
        )


def digest_file(path: Path) -> tuple[str, int]:
    """Digest and size in bytes of a file."""
    hasher = hashlib.sha256()
    size = 0
    for chunk in chunks(path, CHUNK_BYTES):
        hasher.update(chunk)
        size += len(chunk)
    return DIGEST_PREFIX + hasher.hexdigest(), size
