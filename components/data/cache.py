"""Where shards are read from: mapped in place from a local store, else a bounded, prefetched copy on this disk.

The order of use is known in advance, so what is fetched next and what is thrown out is decided by the plan: fetched is
the shard whose use is nearest, evicted the one whose next use is farthest (Belady's rule, optimal when the future is
known).
"""

import bisect
import fcntl
import mmap
import os
import tempfile
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from components.common.blobs import Blobs, digest_file
from components.common.config import NotInKey, StepConfig
from components.common.errors import InputError
from components.data.index import ShardFile

CLOSE_TIMEOUT_S = 10.0


class CacheConfig(StepConfig):
    """The local copy of shards that training reads when the store is remote."""

    max_bytes: Annotated[int, NotInKey] = Field(default=20 * 2**30, gt=0)
    """Most that one training process keeps on its disk. Data larger than this trains just as well."""
    folder: Annotated[str | None, NotInKey] = None
    """Where. Unset: `conveyor-cache` in the system's folder for temporary files."""
    force: Annotated[bool, NotInKey] = False
    """Copy shards even from a store on a local path; worth it where that path is a slow network mount."""


class ShardReader(ABC):
    """Shards as byte arrays, window by window of a plan that was given when it was opened."""

    lasting = True
    """Whether views stay valid beyond their window."""

    @abstractmethod
    def enter(self, window: int) -> None:
        """Wait until all shards of that window of the plan are there; earlier windows may go. Never goes back."""

    @abstractmethod
    def bytes_of(self, shard: int) -> NDArray[np.uint8]:
        """All bytes of a shard of the current window, as a view; copy what must outlive the window."""


@contextmanager
def open_shards(
    blobs: Blobs, shards: Sequence[ShardFile], windows: Sequence[Sequence[int]], config: CacheConfig
) -> Iterator[ShardReader]:
    """Open shards for reading in the order of `windows` (each the numbers of the shards it needs at once).

    Raises `InputError` where the bound is too small for a window, `StoreError` where a shard cannot be had.
    """
    paths = None if config.force else [blobs.local_path(shard.digest) for shard in shards]
    with ExitStack() as stack:
        if paths is not None and all(path is not None for path in paths):
            yield _InPlace([path for path in paths if path is not None], windows)
        else:
            yield stack.enter_context(_cached(blobs, shards, windows, config))


class _InPlace(ShardReader):
    """Shards of a local store, mapped where they lie."""

    def __init__(self, paths: Sequence[Path], windows: Sequence[Sequence[int]]) -> None:
        self._paths, self._windows = paths, windows
        self._maps: dict[int, NDArray[np.uint8]] = {}

    def enter(self, window: int) -> None:
        # Each map holds a file descriptor, of which a process has few; views that are still in use keep theirs.
        needed = self._windows[window]
        self._maps = {shard: data for shard, data in self._maps.items() if shard in needed}

    def bytes_of(self, shard: int) -> NDArray[np.uint8]:
        if shard not in self._maps:
            self._maps[shard] = map_file(self._paths[shard])
        return self._maps[shard]


def map_file(path: Path) -> NDArray[np.uint8]:
    """A file's bytes as a read-only array; unmapped when the last view of it goes."""
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_size == 0:
            return np.empty(0, dtype=np.uint8)
        return np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), dtype=np.uint8)


@contextmanager
def _cached(
    blobs: Blobs, shards: Sequence[ShardFile], windows: Sequence[Sequence[int]], config: CacheConfig
) -> Iterator["ShardCache"]:
    needed = max((sum(shards[s].size_bytes for s in window) for window in windows), default=0)
    if needed > config.max_bytes:
        raise InputError(
            "the shard cache is too small for the shards that are read at once",
            where="cache.max_bytes",
            expected=f"at least {needed} bytes",
            found=f"{config.max_bytes} bytes",
            todo="raise cache.max_bytes, or make smaller shards (preprocess.shard_bytes)",
        )
    root = Path(config.folder) if config.folder else Path(tempfile.gettempdir()) / "conveyor-cache"
    with _own_folder(root) as folder:
        cache = ShardCache(blobs, shards, windows, folder, config.max_bytes)
        try:
            yield cache
        finally:
            cache.close()


@contextmanager
def _own_folder(root: Path) -> Iterator[Path]:
    """The first sub-folder that no living process holds; the lock goes with the process, however it ends."""
    number = 0
    while True:
        folder = root / f"slot-{number}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock: IO[bytes] = (folder / "lock").open("wb")
        except OSError as error:
            raise InputError(
                "the cache folder cannot be written",
                where=str(folder),
                found=str(error),
                todo="set cache.folder to a folder that can be",
            ) from error
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                number += 1
                continue
            yield folder
            return


class ShardCache(ShardReader):
    """Copies of shards on this disk, fetched by a thread in plan order, never more than `max_bytes` in all."""

    lasting = False

    def __init__(
        self,
        blobs: Blobs,
        shards: Sequence[ShardFile],
        windows: Sequence[Sequence[int]],
        folder: Path,
        max_bytes: int,
    ) -> None:
        self._blobs, self._shards, self._windows = blobs, shards, windows
        self._folder, self._max_bytes = folder, max_bytes
        self._uses: dict[int, list[int]] = {}
        for number, window in enumerate(windows):
            for shard in window:
                self._uses.setdefault(shard, []).append(number)
        self._changed = threading.Condition()
        self._current = 0
        self._there: set[int] = set()
        self._used_bytes = 0
        self._maps: dict[int, NDArray[np.uint8]] = {}
        self._stop = False
        self._error: BaseException | None = None
        self._adopt()
        self._thread = threading.Thread(target=self._fetch_all, name="shard-cache", daemon=True)
        self._thread.start()

    def enter(self, window: int) -> None:
        with self._changed:
            self._current = window
            needed = set(self._windows[window])
            for shard in list(self._maps):
                if shard not in needed:
                    del self._maps[shard]
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._error is not None or needed <= self._there)
            if self._error is not None and not needed <= self._there:
                raise self._error

    def bytes_of(self, shard: int) -> NDArray[np.uint8]:
        if shard not in self._maps:
            self._maps[shard] = map_file(self._path(shard))
        return self._maps[shard]

    def close(self) -> None:
        """Stop fetching; what is there stays for the next process that takes this folder."""
        with self._changed:
            self._stop = True
            self._changed.notify_all()
        # A transfer that hangs must not hold up Ctrl-C; the thread ends with the process.
        self._thread.join(CLOSE_TIMEOUT_S)
        self._maps.clear()

    def _path(self, shard: int) -> Path:
        return self._folder / (self._shards[shard].digest.removeprefix("sha256:") + ".tar")

    def _adopt(self) -> None:
        """Keep what an earlier process left and the plan can use, if it is intact; remove everything else."""
        known = {self._path(shard).name: shard for shard in sorted(self._uses)}
        for path in sorted(self._folder.iterdir()):
            if path.name == "lock":
                continue
            shard = known.get(path.name)
            fits = shard is not None and self._used_bytes + path.stat().st_size <= self._max_bytes
            if shard is not None and fits and digest_file(path)[0] == self._shards[shard].digest:
                self._there.add(shard)
                self._used_bytes += self._shards[shard].size_bytes
            else:
                path.unlink()

    def _fetch_all(self) -> None:
        try:
            for number, window in enumerate(self._windows):
                for shard in window:
                    if not self._make_room(number, shard):
                        continue
                    self._blobs.fetch(self._shards[shard].digest, self._path(shard))
                    with self._changed:
                        self._there.add(shard)
                        self._changed.notify_all()
        except BaseException as error:  # noqa: BLE001 - raised again where the shard is waited for
            with self._changed:
                self._error = error
                self._changed.notify_all()

    def _make_room(self, number: int, shard: int) -> bool:
        """Reserve the bytes of `shard`, first needed in window `number`, waiting where there is no room.

        False where nothing is to be fetched: it is there, the reader has passed that window, or all is closing."""
        size = self._shards[shard].size_bytes
        with self._changed:
            while not self._stop and number >= self._current and shard not in self._there:
                if self._used_bytes + size <= self._max_bytes:
                    self._used_bytes += size
                    return True
                victim = self._farthest()
                # Something needed sooner than the newcomer stays; then wait until the reader has moved on.
                if victim is not None and self._next_use(victim) > number:
                    self._evict(victim)
                else:
                    self._changed.wait()
            return False

    def _farthest(self) -> int | None:
        idle = [shard for shard in self._there if shard not in self._windows[self._current]]
        return max(idle, key=lambda shard: (self._next_use(shard), shard), default=None)

    def _next_use(self, shard: int) -> int:
        uses = self._uses[shard]
        at = bisect.bisect_left(uses, self._current)
        return uses[at] if at < len(uses) else len(self._windows)

    def _evict(self, shard: int) -> None:
        self._there.discard(shard)
        self._path(shard).unlink(missing_ok=True)
        self._used_bytes -= self._shards[shard].size_bytes
