"""Tar and zip archives, which may come from anywhere: nothing is unpacked by name, and limits are kept."""

import os
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import IO

from components.common.canonical import digest_json
from components.common.errors import InputError
from components.ingest.config import ArchiveConfig
from components.ingest.sources.base import (
    ChangedError,
    DamagedError,
    Entry,
    Listing,
    UnreadableError,
    printable,
    why_ignored,
)

CHUNK_BYTES = 1 << 20
RATIO_COUNTS_FROM = 1 << 20
"""Bytes below which a high compression ratio is harmless."""


class _Limits:
    """Counts what an archive holds, and refuses one that exceeds its limits or names places outside itself."""

    def __init__(self, path: str, limits: ArchiveConfig, packed_bytes: int) -> None:
        self._path, self._limits, self._packed = path, limits, packed_bytes
        self._members = self._bytes = 0
        self._names: set[str] = set()

    def member(self, name: str, size: int, *, packed: int | None = None) -> str:
        """Count one file; returns its name without a leading `./`. Raises `InputError`."""
        clean = name.removeprefix("./")
        if clean.startswith(("/", "\\")) or ".." in clean.replace("\\", "/").split("/"):
            raise self._refuse("names a place outside itself", "relative names without '..'", name)
        if clean in self._names:
            raise self._refuse("has two members of one name", "each name once", name)
        self._names.add(clean)
        self._members += 1
        if self._members > self._limits.max_members:
            raise self._refuse(
                "has too many members",
                f"at most {self._limits.max_members} (ingest.archive.max_members)",
                "more",
            )
        self.grow(size)
        if packed is not None and size > RATIO_COUNTS_FROM and size > packed * self._limits.max_ratio:
            raise self._too_dense(f"{name}: {size} bytes from {packed}")
        return clean

    def grow(self, size: int) -> None:
        """Count bytes unpacked."""
        self._bytes += size
        if self._bytes > self._limits.max_bytes:
            raise self._refuse(
                "is too large unpacked",
                f"at most {self._limits.max_bytes} bytes (ingest.archive.max_bytes)",
                f"{self._bytes} and more",
            )

    def check_ratio(self, unpacked: int) -> None:
        """Of a whole compressed stream."""
        if unpacked > RATIO_COUNTS_FROM and unpacked > self._packed * self._limits.max_ratio:
            raise self._too_dense(f"{unpacked} bytes and more from {self._packed}")

    def _too_dense(self, found: str) -> InputError:
        expected = f"at most {self._limits.max_ratio:g} bytes from one (ingest.archive.max_ratio)"
        return self._refuse("unpacks to suspiciously much", expected, found)

    def _refuse(self, what: str, expected: str, found: str) -> InputError:
        return InputError(
            f"the archive {what}",
            where=self._path,
            expected=expected,
            found=printable(found),
            todo="unpack it yourself if you trust it, and give the folder as the source",
        )


class ArchiveSource:
    """A tar (plain or compressed) or zip file.

    Members are read where they lie; only a compressed tar, which allows no other order, is first unpacked into one
    nameless file of the scratch folder. Links and devices are not followed.
    """

    parallel_reads = 1

    def __init__(self, path: str, limits: ArchiveConfig) -> None:
        self._path, self._limits = path, limits
        self._seen: str | None = None

    def __reduce__(self) -> tuple[object, ...]:
        return ArchiveSource, (self._path, self._limits)

    def fingerprint(self) -> str:
        """Of the archive itself: its members are read only when there is something to do."""
        self._seen = _stamp(self._path)
        return digest_json(["archive", self._seen])

    def list(self, scratch: Path) -> Listing:
        stamp = _stamp(self._path)
        if self._seen not in {None, stamp}:
            raise InputError("the archive changed while it was read", where=self._path, todo="run again")
        listing = Listing([])
        limits = _Limits(self._path, self._limits, Path(self._path).stat().st_size)
        is_zip = zipfile.is_zipfile(self._path)
        try:
            members = self._zip(limits, listing) if is_zip else self._tar(limits, listing, scratch)
            for name, size, own_stamp, locator in members:
                why = why_ignored(name)
                if why is not None:
                    listing.ignored[why] = listing.ignored.get(why, 0) + 1
                else:
                    # The archive's own stamp too: without a checksum a member's time says little.
                    listing.entries.append(Entry(printable(name), size, f"{stamp} {own_stamp}", locator))
        except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
            raise InputError(
                "the archive cannot be read to its end",
                where=self._path,
                expected="a whole tar (plain, gzip, bzip2, xz) or zip file",
                found=str(error) or type(error).__name__,
                todo="copy it again",
            ) from None
        listing.entries = sorted(unwrap(listing.entries), key=lambda entry: entry.name)
        return listing

    def _zip(self, limits: _Limits, listing: Listing) -> Iterator[tuple[str, int, str, str]]:
        with zipfile.ZipFile(self._path) as archive:
            for i, info in enumerate(archive.infolist()):
                if info.is_dir():
                    continue
                name = limits.member(info.filename, info.file_size, packed=info.compress_size)
                if info.flag_bits & 1:
                    raise InputError(
                        "the archive is encrypted", where=self._path, todo="unpack it, and give the folder"
                    )
                kind = stat.S_IFMT(info.external_attr >> 16)
                if kind not in {0, stat.S_IFREG}:
                    listing.ignored["link or device"] = listing.ignored.get("link or device", 0) + 1
                    continue
                yield name, info.file_size, f"{info.CRC:08x}", f"zip:{i}:"

    def _tar(self, limits: _Limits, listing: Listing, scratch: Path) -> Iterator[tuple[str, int, str, str]]:
        with Path(self._path).open("rb") as raw:
            plain = _is_plain_tar(raw)
        with tarfile.open(
            self._path, "r:" if plain else "r|*", encoding="utf-8", errors="surrogateescape"
        ) as archive:
            unpacked = scratch / "unpacked.bin"
            with unpacked.open("wb") as out:
                for info in archive:
                    archive.members = []  # type: ignore[attr-defined]  # or every header stays in memory
                    if not plain:
                        limits.check_ratio(info.offset_data + info.size)
                    if info.isdir():
                        continue
                    if not info.isreg() or info.issparse():
                        listing.ignored["link or device"] = listing.ignored.get("link or device", 0) + 1
                        continue
                    name = limits.member(info.name, info.size)
                    offset = info.offset_data
                    if not plain and why_ignored(name) is None:
                        offset = out.tell()
                        body = archive.extractfile(info)
                        assert body is not None
                        _copy(body, out, info.size)
                    yield (
                        name,
                        info.size,
                        str(info.mtime),
                        f"tar:{offset}:" if plain else f"raw:{offset}:{unpacked}",
                    )

    def read(self, entry: Entry, limit: int) -> bytes:
        """A member, from the archive (which must be unchanged) or from where it was unpacked."""
        kind, number, unpacked = entry.locator.split(":", 2)
        try:
            if kind != "raw" and _stamp(self._path) != entry.stamp.partition(" ")[0]:
                raise ChangedError("the archive was written to")
            if kind == "zip":
                archive = _open_zip(self._path)
                with archive.open(archive.infolist()[int(number)]) as member:
                    data = member.read(min(entry.size_bytes, limit) + 1)
            else:
                file = _open_file(unpacked if kind == "raw" else self._path)
                data = os.pread(file, min(entry.size_bytes, limit), int(number))
        except (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError) as error:
            raise DamagedError(f"in the archive: {error}") from None
        except OSError as error:
            raise UnreadableError(error.strerror or str(error)) from None
        if len(data) != entry.size_bytes:
            raise DamagedError(f"{len(data)} bytes in the archive where {entry.size_bytes} are announced")
        return data


def unwrap(entries: list[Entry]) -> list[Entry]:
    """Archives often hold one folder with everything in it: that is not a class."""
    tops = {entry.name.partition("/")[0] for entry in entries}
    if len(tops) != 1 or any(entry.name.count("/") < 2 for entry in entries):
        return entries
    return [replace(entry, name=entry.name.partition("/")[2]) for entry in entries]


def is_archive(path: Path) -> bool:
    """By content, whatever the name."""
    if not path.is_file():
        return False
    return zipfile.is_zipfile(path) or tarfile.is_tarfile(path)


def _is_plain_tar(raw: IO[bytes]) -> bool:
    try:
        with tarfile.open(fileobj=raw, mode="r:"):
            return True
    except tarfile.TarError:
        return False


def _copy(body: IO[bytes], out: IO[bytes], size: int) -> None:
    left = size
    while left > 0:
        chunk = body.read(min(CHUNK_BYTES, left))
        if not chunk:
            raise EOFError("the archive ends inside a member")
        out.write(chunk)
        left -= len(chunk)


def _stamp(path: str) -> str:
    info = Path(path).stat()
    return f"{info.st_size}-{info.st_mtime_ns}"


@lru_cache(maxsize=2)
def _open_zip(path: str) -> zipfile.ZipFile:
    """Once a process: reading the directory of a large archive takes seconds."""
    return zipfile.ZipFile(path)


@lru_cache(maxsize=2)
def _open_file(path: str) -> int:
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
