"""Images named on a command line: files, folders, archives and buckets, read batch by batch."""

import stat
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from components.common.errors import ConveyorError, InputError
from components.common.store.settings import StoreSettings
from components.data.strict import BadImageError
from components.ingest.config import ArchiveConfig
from components.ingest.sources.archive import ArchiveSource, is_archive
from components.ingest.sources.base import (
    FORMAT_BY_SUFFIX,
    ChangedError,
    DamagedError,
    Entry,
    UnreadableError,
    printable,
    suffix_of,
)
from components.ingest.sources.folder import FolderSource, read_file, unreadable

MAX_FILE_BYTES = 256 * 2**20
MAX_BATCH_BYTES = 64 * 2**20


@dataclass(frozen=True, slots=True)
class Image:
    """An encoded image, or why there is none."""

    path: str
    """As a person would name it, printable."""
    data: bytes
    error: BadImageError | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """One argument of the command line, looked up."""

    entries: list[Entry]
    read: Callable[[Entry, int], bytes]
    """An entry's bytes, at most so many."""
    prefix: str = ""
    """Stands before an entry's name."""
    parallel_reads: int = 1


def find_images(paths: Sequence[str], settings: StoreSettings | None, scratch: Path) -> list[Place]:
    """Look up every argument. Raises `InputError` for one that is not there, or holds no image."""
    return [_place(path, settings, scratch) for path in paths]


def read_batches(places: Sequence[Place], batch_size: int) -> Iterator[list[Image]]:
    """All images in order, in batches of at most `batch_size` images and some 64 MB; a batch is read ahead."""
    readers = max(place.parallel_reads for place in places)
    with ThreadPoolExecutor(readers) as pool, ThreadPoolExecutor(1) as ahead:
        waiting: Future[list[Image]] | None = None
        for batch in _batches(places, batch_size):
            reading = ahead.submit(_read_all, pool, batch)
            if waiting is not None:
                yield waiting.result()
            waiting = reading
        if waiting is not None:
            yield waiting.result()


def _read_all(pool: ThreadPoolExecutor, batch: list[tuple[Place, Entry]]) -> list[Image]:
    return list(pool.map(lambda item: _read(*item), batch))


def _batches(places: Sequence[Place], batch_size: int) -> Iterator[list[tuple[Place, Entry]]]:
    batch: list[tuple[Place, Entry]] = []
    num_bytes = 0
    for place in places:
        for entry in place.entries:
            if batch and (len(batch) >= batch_size or num_bytes + entry.size_bytes > MAX_BATCH_BYTES):
                yield batch
                batch, num_bytes = [], 0
            batch.append((place, entry))
            num_bytes += min(entry.size_bytes, MAX_FILE_BYTES)
    if batch:
        yield batch


def _read(place: Place, entry: Entry) -> Image:
    path = place.prefix + entry.name
    if entry.size_bytes > MAX_FILE_BYTES:
        words = f"{entry.size_bytes:,} bytes, more than {MAX_FILE_BYTES:,}"
        return Image(path, b"", BadImageError("too_large", words))
    try:
        return Image(path, place.read(entry, MAX_FILE_BYTES))
    except (ChangedError, DamagedError, UnreadableError) as error:
        reason = {ChangedError: "changed", DamagedError: "damaged", UnreadableError: "unreadable"}[
            type(error)
        ]
        return Image(path, b"", BadImageError(reason, str(error)))
    except ConveyorError as error:
        return Image(path, b"", BadImageError("unreadable", error.what))


def _place(path: str, settings: StoreSettings | None, scratch: Path) -> Place:
    place = _bucket(path, settings, scratch) if path.startswith("s3://") else _local(path, scratch)
    if not place.entries:
        raise InputError(
            "there is no image here",
            where=printable(path),
            expected="files named .jpg, .png, .webp, .bmp or .tiff",
        )
    return place


def _local(path: str, scratch: Path) -> Place:
    here = Path(path).expanduser()
    name = printable(str(here))
    try:
        if here.is_dir():
            folder = FolderSource(str(here))
            return Place(folder.list(scratch).entries, folder.read, name.rstrip("/") + "/")
        # What is called an image is one: a file of zeros is also an empty tar.
        if suffix_of(name) not in FORMAT_BY_SUFFIX and here.is_file() and is_archive(here):
            archive = ArchiveSource(str(here), ArchiveConfig())
            return Place(archive.list(scratch).entries, archive.read, name + ":")
        info = here.stat()
    except FileNotFoundError:
        raise InputError("there is no such file or folder", where=name) from None
    except OSError as error:
        raise unreadable(str(here), error) from None
    if not stat.S_ISREG(info.st_mode):
        raise InputError("this is neither a file nor a folder", where=name)
    return Place([Entry(name, info.st_size, str(info.st_mtime_ns), str(here))], read_file)


def _bucket(url: str, settings: StoreSettings | None, scratch: Path) -> Place:
    """A prefix; or, where nothing lies below it, the one object of that name."""
    from components.ingest.sources.bucket import BucketSource

    below = BucketSource(url, settings)
    entries = below.list(scratch).entries
    parent, _, name = url.removeprefix("s3://").rstrip("/").rpartition("/")
    if entries or not parent:
        return Place(entries, below.read, printable(url).rstrip("/") + "/", below.parallel_reads)
    beside = BucketSource(f"s3://{parent}", settings)
    own = [entry for entry in beside.list(scratch).entries if entry.locator == name]
    return Place(own, beside.read, printable(f"s3://{parent}/"))
