"""The store in a folder: every write is atomic and durable, several processes may work in it at once."""

import errno
import fcntl
import hashlib
import io
import os
import secrets
import stat as stat_module
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import BinaryIO

from components.common.canonical import DIGEST_PREFIX, digest_bytes
from components.common.errors import InputError, StoreError
from components.common.store.base import DigestMismatchError, NotFoundError, ObjectInfo, Store
from components.common.store.keys import check_key, check_prefix
from components.common.store.probe import probe
from components.common.store.streams import bounded, chunks, out_of_range

OWN = ".conveyor-store"
"""Folder in the root for temporary files and the lock; no key can name it."""
TRIES = 50
NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)

CURES = {
    errno.ENOSPC: (
        "the disk of the store is full",
        "free some space ('conveyor gc' lists what may go), then run again",
    ),
    errno.EDQUOT: (
        "the disk quota of the store is used up",
        "free some space or raise the quota, then run again",
    ),
    errno.EROFS: (
        "the store lies on a read-only file system",
        "mount it writable, or choose another --store",
    ),
    errno.EACCES: (
        "no permission in the store's folder",
        "give this user the right to it, or choose another --store",
    ),
    errno.EPERM: (
        "the store's folder does not allow this",
        "give this user the right to it, or choose another --store",
    ),
    errno.EISDIR: ("an object name is already a folder of other objects", "choose another name"),
    errno.ENOTDIR: ("a part of the object name is already an object itself", "choose another name"),
    errno.EMFILE: ("too many open files", "raise the limit (ulimit -n), then run again"),
    errno.EIO: ("the disk of the store fails", "look at the system's log; copy the store to another disk"),
}


class FileStore(Store):
    """Objects as files below `root`.

    A write goes to a temporary file on the same file system, is synced, and becomes visible by one link or rename; its
    folder is synced then. A writer holds a lock on its temporary file, so that what a killed one left is told from work
    in progress. Compare-and-swap runs under a `flock`, which the system releases when its holder dies.
    """

    def __init__(self, root: Path) -> None:
        if root.exists() and not root.is_dir():
            raise InputError(
                "the store must be a folder", where=str(root), found="a file", todo="choose another --store"
            )
        self.root = root.resolve()
        self.url = self.root.as_uri()

    def put(self, key: str, source: bytes | Path | BinaryIO, *, digest: str | None = None) -> None:
        path = self._path(key)
        with self._errors(key), self._written(source, digest) as temp, self._lock(fcntl.LOCK_SH):
            self._into_place(os.replace, temp, path)

    def open(
        self, key: str, *, offset: int = 0, length: int | None = None
    ) -> AbstractContextManager[BinaryIO]:
        return self._open(key, offset, length)

    @contextmanager
    def _open(self, key: str, offset: int, length: int | None) -> Iterator[BinaryIO]:
        # Errors inside the caller's block are the caller's: only the opening is ours.
        with self._opened(key) as file:
            size = os.fstat(file.fileno()).st_size
            end = size if length is None else offset + length
            if offset < 0 or end < offset or end > size:
                raise out_of_range(f"{self.url}/{key}", offset, length, size)
            file.seek(offset)
            yield file if end == size else bounded(file, end - offset)

    def _opened(self, key: str) -> BinaryIO:
        path = self._path(key)
        with self._errors(key):
            try:
                fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            except (FileNotFoundError, NotADirectoryError):
                raise self._not_found(key) from None
            if stat_module.S_ISREG(os.fstat(fd).st_mode):
                return os.fdopen(fd, "rb")
            os.close(fd)
            raise self._not_found(key)

    def read(self, key: str) -> tuple[bytes, str]:
        with self._opened(key) as file, self._errors(key):
            data = file.read()
        return data, digest_bytes(data)

    def create(self, key: str, data: bytes) -> bool:
        path = self._path(key)
        with self._errors(key):
            if path.is_file():
                return False
            with self._written(data, None) as temp:
                return self._create(temp, path)

    def _create(self, temp: Path, path: Path) -> bool:
        try:
            self._into_place(os.link, temp, path)
        except FileExistsError:
            if path.is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path)) from None
            return False
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
            # A file system without hard links: the lock that every replacing writer takes does the same.
            with self._lock(fcntl.LOCK_EX):
                if path.exists():
                    return False
                self._into_place(os.replace, temp, path)
        return True

    def swap(self, key: str, data: bytes, *, tag: str | None) -> bool:
        if tag is None:
            return self.create(key, data)
        path = self._path(key)
        with self._errors(key), self._written(data, None) as temp, self._lock(fcntl.LOCK_EX):
            try:
                _, found = self.read(key)
            except NotFoundError:
                return False
            if found != tag:
                return False
            self._into_place(os.replace, temp, path)
            return True

    def stat(self, key: str) -> ObjectInfo | None:
        path = self._path(key)
        with self._errors(key):
            try:
                status = path.lstat()
            except (FileNotFoundError, NotADirectoryError):
                return None
        if not stat_module.S_ISREG(status.st_mode):
            return None
        return ObjectInfo(key, status.st_size, status.st_mtime)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        check_prefix(prefix)
        folder = prefix.rpartition("/")[0]
        with self._errors(prefix):
            yield from self._walk(
                self._path(folder) if folder else self.root, f"{folder}/" if folder else "", prefix
            )

    def _walk(self, folder: Path, base: str, prefix: str) -> Iterator[ObjectInfo]:
        try:
            with os.scandir(folder) as scan:
                entries = [
                    entry for entry in scan if not entry.name.startswith(".") and not entry.is_symlink()
                ]
        except (FileNotFoundError, NotADirectoryError):
            return
        # A folder sorts as its keys do, that is with its slash.
        entries.sort(key=lambda e: f"{e.name}/" if e.is_dir(follow_symlinks=False) else e.name)
        for entry in entries:
            key = base + entry.name
            if entry.is_dir(follow_symlinks=False):
                if f"{key}/".startswith(prefix):
                    yield from self._walk(folder / entry.name, f"{key}/", prefix)
            elif key.startswith(prefix):
                try:
                    status = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                yield ObjectInfo(key, status.st_size, status.st_mtime)

    def touch(self, key: str) -> bool:
        path = self._path(key)
        with self._errors(key), self._lock(fcntl.LOCK_SH):
            try:
                os.utime(path, follow_symlinks=False)
            except (FileNotFoundError, NotADirectoryError):
                return False
        return True

    def delete(self, key: str) -> None:
        path = self._path(key)
        with self._errors(key), self._lock(fcntl.LOCK_SH):
            try:
                path.unlink()
            except (FileNotFoundError, NotADirectoryError):
                return
            _sync_folder(path.parent)
            # Folders that became empty go too; a writer that meets this makes them again.
            for folder in path.parents:
                if folder == self.root:
                    break
                try:
                    folder.rmdir()
                except OSError:
                    break

    def leftovers(self, before: float) -> Iterator[ObjectInfo]:
        folder = self.root / OWN
        try:
            entries = sorted(os.scandir(folder), key=lambda e: e.name)
        except (FileNotFoundError, NotADirectoryError):
            return
        for entry in entries:
            if not entry.name.endswith(".tmp"):
                continue
            with self._errors(entry.name):
                try:
                    status = entry.stat(follow_symlinks=False)
                    # Only old ones are tried, since a new one's writer may be about to take its lock.
                    left = status.st_mtime < before and not _is_locked(folder / entry.name)
                except FileNotFoundError:
                    continue
            if left:
                yield ObjectInfo(f"{OWN}/{entry.name}", status.st_size, status.st_mtime)

    def remove_leftover(self, info: ObjectInfo) -> None:
        with self._errors(info.key):
            (self.root / OWN / Path(info.key).name).unlink(missing_ok=True)

    def check(self) -> None:
        probe(self)

    def local_path(self, key: str) -> Path | None:
        path = self._path(key)
        return path if path.is_file() else None

    # -- how a write becomes visible -------------------------------------------------------------------------------

    @contextmanager
    def _written(self, source: bytes | Path | BinaryIO, digest: str | None) -> Iterator[Path]:
        """A synced temporary file with the bytes of `source`; gone when the block ends."""
        folder = self.root / OWN
        temp = folder / f"{secrets.token_hex(16)}.tmp"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            fd = os.open(temp, flags, 0o666)
        except FileNotFoundError:
            folder.mkdir(parents=True, exist_ok=True)
            fd = os.open(temp, flags, 0o666)
        try:
            with os.fdopen(fd, "wb", buffering=0) as file:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                found = _copy(source, file, hashed=digest is not None)
                if digest is not None and found != digest:
                    raise DigestMismatchError(
                        "the bytes to store do not fit their digest",
                        where=self.url,
                        expected=digest,
                        found=found,
                    )
                os.fsync(fd)
                yield temp
        finally:
            temp.unlink(missing_ok=True)

    def _into_place(self, move: object, temp: Path, path: Path) -> None:
        """Link or rename `temp` to `path`, making folders where needed, and sync the folder."""
        for attempt in range(TRIES):
            try:
                move(temp, path)  # type: ignore[operator]
                break
            except FileNotFoundError:
                if attempt == TRIES - 1 or not temp.exists():
                    raise
                self._make_folders(path.parent)
        _sync_folder(path.parent)

    def _make_folders(self, folder: Path) -> None:
        missing = []
        while folder != self.root and not folder.exists():
            missing.append(folder)
            folder = folder.parent
        for new in reversed(missing):
            try:
                new.mkdir(exist_ok=True)
                _sync_folder(new.parent)
            except FileNotFoundError:
                return  # A deleter took the parent away meanwhile; the caller tries again.

    @contextmanager
    def _lock(self, kind: int) -> Iterator[None]:
        """Hold the store's lock: shared to replace or delete an object, exclusive to compare and swap."""
        path = self.root / OWN / "lock"
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except FileNotFoundError:
            path.parent.mkdir(parents=True, exist_ok=True)
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(fd, kind)
            yield
        finally:
            os.close(fd)

    def _path(self, key: str) -> Path:
        """Where an object lies. A symbolic link inside the store is refused: it could lead anywhere."""
        path = self.root / check_key(key)
        for part in (path, *path.parents):
            if part == self.root:
                return path
            if part.is_symlink():
                raise StoreError(
                    "there is a symbolic link inside the store",
                    where=str(part),
                    todo="remove it; only the store's root itself may be a link",
                )
        return path

    def _not_found(self, key: str) -> NotFoundError:
        return NotFoundError("there is no such object in the store", where=f"{self.url}/{key}")

    @contextmanager
    def _errors(self, key: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            what, todo = CURES.get(error.errno or 0, ("the store's folder cannot be used", None))
            raise StoreError(what, where=f"{self.url}/{key}", found=str(error), todo=todo) from error


def _copy(source: bytes | Path | BinaryIO, target: io.FileIO, *, hashed: bool) -> str:
    """Write `source` to `target`; the digest of the bytes, or "" where it was not asked for."""
    hasher = hashlib.sha256()
    for chunk in chunks(source):
        if hashed:
            hasher.update(chunk)
        view = memoryview(chunk)
        while view:
            view = view[target.write(view) :]
    return DIGEST_PREFIX + hasher.hexdigest() if hashed else ""


def _sync_folder(folder: Path) -> None:
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return  # Deleted meanwhile.
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _is_locked(path: Path) -> bool:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False
