"""Byte streams: sources cut into chunks, readers that end at a length or check a digest at their end."""

import hashlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

from components.common.canonical import DIGEST_PREFIX
from components.common.errors import InputError, StoreError
from components.common.store.base import DigestMismatchError

CHUNK_BYTES = 1 << 20


def chunks(source: bytes | Path | BinaryIO, size: int = CHUNK_BYTES) -> Iterator[bytes]:
    """The bytes of `source` in pieces of at most `size`; a stream is read from where it stands.

    Raises `InputError` where a file cannot be read: that is not the store's fault.
    """
    if isinstance(source, bytes):
        yield source
        return
    if isinstance(source, Path):
        try:
            file = source.open("rb")
        except OSError as error:
            raise InputError("a file to store cannot be read", where=str(source), found=str(error)) from error
        with file:
            yield from chunks(file, size)
        return
    while chunk := source.read(size):
        yield chunk


class _Bounded(io.RawIOBase):
    """The next `length` bytes of a stream."""

    def __init__(self, stream: BinaryIO, length: int) -> None:
        self._stream = stream
        self._left = length

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(cast(bytearray, buffer)).cast("B")[: self._left]
        data = self._stream.read(len(view)) if view else b""
        view[: len(data)] = data
        self._left -= len(data)
        return len(data)


def bounded(stream: BinaryIO, length: int) -> BinaryIO:
    """A reader of the next `length` bytes of `stream`."""
    return cast(BinaryIO, io.BufferedReader(_Bounded(stream, length), CHUNK_BYTES))


class _Verified(io.RawIOBase):
    """Passes a stream on and compares its digest at the end."""

    def __init__(self, stream: BinaryIO, digest: str, where: str) -> None:
        self._stream = stream
        self._digest = digest
        self._where = where
        self._hasher = hashlib.sha256()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(cast(bytearray, buffer)).cast("B")
        if not view:
            return 0
        data = self._stream.read(len(view))
        view[: len(data)] = data
        self._hasher.update(data)
        if not data:
            check_digest(DIGEST_PREFIX + self._hasher.hexdigest(), self._digest, self._where)
        return len(data)


def verified(stream: BinaryIO, digest: str, where: str) -> BinaryIO:
    """A reader of the whole `stream` that raises `DigestMismatchError` at its end where the bytes are not `digest`."""
    return cast(BinaryIO, io.BufferedReader(_Verified(stream, digest, where), CHUNK_BYTES))


def check_digest(found: str, expected: str, where: str) -> None:
    """Raises `DigestMismatchError` where the two differ."""
    if found != expected:
        raise DigestMismatchError(
            "stored bytes are damaged: they do not fit their digest",
            where=where,
            expected=expected,
            found=found,
            todo="'conveyor verify' lists all damage; remove the object and run again to make it anew",
        )


def out_of_range(where: str, offset: int, length: int | None, size: int) -> StoreError:
    """The error for a range of which an object of `size` bytes lacks a part."""
    return StoreError(
        "the range to read does not lie within the object",
        where=where,
        expected=f"a range within {size} bytes",
        found=f"offset {offset}, length {length}",
    )
