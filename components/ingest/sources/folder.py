"""A folder tree on this machine."""

import os
import stat
from pathlib import Path

from components.common.errors import InputError
from components.ingest.sources.base import (
    ChangedError,
    Entry,
    Listing,
    UnreadableError,
    fingerprint_entries,
    printable,
    why_ignored,
)


class FolderSource:
    """Files below `root`; links are followed, except one that leads back to a folder above it."""

    parallel_reads = 1

    def __init__(self, root: str) -> None:
        self._root = root
        self._listing: Listing | None = None

    def __reduce__(self) -> tuple[object, ...]:
        return FolderSource, (self._root,)  # workers need no listing

    def fingerprint(self) -> str:
        self._listing = self._list()
        return fingerprint_entries(self._listing.entries)

    def list(self, scratch: Path) -> Listing:
        return self._listing or self._list()

    def _list(self) -> Listing:
        listing = Listing([])
        try:
            top = Path(self._root).stat()
        except OSError as error:
            raise unreadable(self._root, error) from None
        self._scan(self._root, "", ((top.st_dev, top.st_ino),), listing)
        listing.entries.sort(key=lambda entry: entry.name)
        return listing

    def _scan(self, folder: str, prefix: str, above: tuple[tuple[int, int], ...], listing: Listing) -> None:
        try:
            with os.scandir(folder) as found:
                children = sorted(found, key=lambda child: os.fsencode(child.name))
        except OSError as error:
            raise unreadable(folder, error) from None
        for child in children:
            name = prefix + printable(child.name)
            if child.name.startswith(".") or child.name == "__MACOSX":
                _count(listing, "hidden")
                continue
            try:
                info = child.stat()
            except OSError as error:
                if why_ignored(name) is None:
                    raise unreadable(child.path, error) from None
                _count(listing, "broken link")
                continue
            if stat.S_ISDIR(info.st_mode):
                here = (info.st_dev, info.st_ino)
                if here in above:
                    _count(listing, "link to a folder above it")
                    listing.notes.append(f"{name} leads back to a folder above it and was not followed")
                    continue
                self._scan(child.path, name + "/", (*above, here), listing)
            elif not stat.S_ISREG(info.st_mode):
                _count(listing, "not a regular file")
            elif (why := why_ignored(name)) is not None:
                _count(listing, why)
            else:
                listing.entries.append(Entry(name, info.st_size, str(info.st_mtime_ns), child.path))

    def read(self, entry: Entry, limit: int) -> bytes:
        return read_file(entry, limit)


def read_file(entry: Entry, limit: int) -> bytes:
    """The file at the entry's locator; it must be what the listing saw, before and after."""
    try:
        fd = os.open(entry.locator, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise ChangedError("it has vanished") from None
    except OSError as error:
        raise UnreadableError(error.strerror or str(error)) from None
    try:
        # One byte more than was listed tells a file that grows.
        data = os.read(fd, min(entry.size_bytes, limit) + 1)
        while 0 < len(data) < entry.size_bytes:
            more = os.read(fd, entry.size_bytes + 1 - len(data))
            if not more:
                break
            data += more
        info = os.fstat(fd)
    except OSError as error:
        raise UnreadableError(error.strerror or str(error)) from None
    finally:
        os.close(fd)
    if len(data) != entry.size_bytes or str(info.st_mtime_ns) != entry.stamp:
        raise ChangedError(f"it had {entry.size_bytes} bytes when it was listed, and was written to since")
    return data


def _count(listing: Listing, why: str) -> None:
    listing.ignored[why] = listing.ignored.get(why, 0) + 1


def unreadable(path: str, error: OSError) -> InputError:
    return InputError(
        "a file or folder of the source cannot be read",
        where=printable(path),
        found=error.strerror or str(error),
        todo="make it readable, or remove it",
    )
