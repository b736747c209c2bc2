"""The shard cache: never over its bound, right bytes always, whatever was left on the disk before."""

import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from components.common.blobs import Blobs
from components.common.errors import InputError, StoreError
from components.common.store import open_store
from components.data.cache import CacheConfig, open_shards
from components.data.index import ShardFile

SIZE = 1000


class Watched(Blobs):
    """Counts fetches, and the bytes in the cache's folder at each."""

    def __init__(self, url: str, folder: Path) -> None:
        super().__init__(open_store(url))
        self.folder = folder
        self.fetched: list[str] = []
        self.most_bytes = 0

    def fetch(self, digest: str, path: Path) -> None:
        super().fetch(digest, path)
        self.fetched.append(digest)
        self.most_bytes = max(self.most_bytes, used_bytes(self.folder))


def used_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def blobs(tmp_path: Path) -> Watched:
    return Watched(str(tmp_path / "store"), tmp_path / "cache")


def make_files(blobs: Blobs, num: int, sizes: Sequence[int] | None = None) -> list[ShardFile]:
    files = []
    for number in range(num):
        data = bytes([number]) * (sizes[number] if sizes else SIZE)
        digest, size = blobs.put(data)
        files.append(ShardFile(f"shards/train-{number:05d}.tar", digest, size))
    return files


def config(blobs: Watched, max_bytes: int) -> CacheConfig:
    return CacheConfig(max_bytes=max_bytes, folder=str(blobs.folder), force=True)


def read_all(
    blobs: Watched, files: Sequence[ShardFile], windows: Sequence[Sequence[int]], max_bytes: int
) -> None:
    with open_shards(blobs, files, windows, config(blobs, max_bytes)) as reader:
        for number, window in enumerate(windows):
            reader.enter(number)
            for shard in window:
                data = reader.bytes_of(shard)
                assert (np.array(data) == shard).all()
                assert len(data) == files[shard].size_bytes


def test_a_local_store_is_mapped_in_place(blobs: Watched) -> None:
    files = make_files(blobs, 3)
    with open_shards(blobs, files, [(0, 1), (2,)], CacheConfig(folder=str(blobs.folder))) as reader:
        reader.enter(0)
        first = reader.bytes_of(0)
        reader.enter(1)
        assert (reader.bytes_of(2) == 2).all()
        assert (first == 0).all()  # views last
    assert not blobs.fetched
    assert not blobs.folder.exists()


def test_far_more_data_than_room(blobs: Watched) -> None:
    files = make_files(blobs, 20)
    windows = [tuple(range(first, first + 2)) for first in range(0, 20, 2)] * 3
    read_all(blobs, files, windows, max_bytes=3 * SIZE)
    assert blobs.most_bytes <= 3 * SIZE
    assert used_bytes(blobs.folder) <= 3 * SIZE


def test_enough_room_fetches_each_shard_once(blobs: Watched) -> None:
    files = make_files(blobs, 6)
    read_all(blobs, files, [(0, 1), (2, 3), (4, 5)] * 4, max_bytes=6 * SIZE)
    assert sorted(blobs.fetched) == sorted(file.digest for file in files)


def test_the_shard_whose_next_use_is_farthest_goes(blobs: Watched) -> None:
    files = make_files(blobs, 4)
    # With room for three, shard 3 must push out 2 (used last of all), and 2 must push out 3 (not used again).
    read_all(blobs, files, [(0, 1, 2), (3,), (0,), (1,), (2,)], max_bytes=3 * SIZE)
    assert blobs.fetched == [files[shard].digest for shard in (0, 1, 2, 3, 2)]


def test_the_next_window_is_fetched_ahead(blobs: Watched) -> None:
    files = make_files(blobs, 4)
    ahead = threading.Event()
    original = blobs.fetch

    def fetch(digest: str, path: Path) -> None:
        original(digest, path)
        if digest == files[2].digest:
            ahead.set()

    blobs.fetch = fetch  # type: ignore[method-assign]
    with open_shards(blobs, files, [(0, 1), (2, 3)], config(blobs, 3 * SIZE)) as reader:
        reader.enter(0)
        assert ahead.wait(30)  # while window 0 is still in use
        assert (reader.bytes_of(0) == 0).all()


def test_windows_may_be_skipped(blobs: Watched) -> None:
    files = make_files(blobs, 30)
    windows = [(number,) for number in range(30)]
    with open_shards(blobs, files, windows, config(blobs, 2 * SIZE)) as reader:
        for number in (0, 7, 8, 29):
            reader.enter(number)
            assert (reader.bytes_of(number) == number).all()


def test_too_small_a_bound_is_said_before_anything_is_fetched(blobs: Watched) -> None:
    files = make_files(blobs, 4)
    with (
        pytest.raises(InputError) as error,
        open_shards(blobs, files, [(0, 1, 2)], config(blobs, 2 * SIZE)),
    ):
        pass
    assert "cache.max_bytes" in str(error.value)
    assert f"{3 * SIZE} bytes" in str(error.value)
    assert not blobs.fetched


def test_what_an_earlier_process_left_is_used_if_intact(blobs: Watched) -> None:
    files = make_files(blobs, 4)
    windows = [(0, 1), (2, 3)]
    read_all(blobs, files, windows, max_bytes=4 * SIZE)
    slot = blobs.folder / "slot-0"
    copies = sorted(slot.glob("*.tar"))
    assert len(copies) == 4
    copies[0].write_bytes(b"x" * SIZE)  # a damaged disk
    copies[1].write_bytes(copies[1].read_bytes()[:10])  # a crash of the machine
    (slot / ".0123.tar.abcd.part").write_bytes(b"y" * 500)  # killed while fetching
    (slot / ("0" * 64 + ".tar")).write_bytes(b"z" * 500)  # another data set's
    blobs.fetched.clear()
    read_all(blobs, files, windows, max_bytes=4 * SIZE)
    assert len(blobs.fetched) == 2
    assert used_bytes(blobs.folder) == 4 * SIZE


def test_two_at_once_keep_apart(blobs: Watched) -> None:
    files = make_files(blobs, 2)
    with (
        open_shards(blobs, files, [(0, 1)], config(blobs, 2 * SIZE)) as one,
        open_shards(blobs, files, [(0, 1)], config(blobs, 2 * SIZE)) as two,
    ):
        for reader in (one, two):
            reader.enter(0)
            assert (reader.bytes_of(1) == 1).all()
        assert sorted(path.name for path in blobs.folder.iterdir()) == ["slot-0", "slot-1"]


def test_a_shard_that_is_gone_is_an_error_where_it_is_waited_for(blobs: Watched) -> None:
    files = make_files(blobs, 3)
    missing = ShardFile("shards/train-00009.tar", "sha256:" + "0" * 64, SIZE)
    with open_shards(blobs, [*files, missing], [(0,), (3,)], config(blobs, 4 * SIZE)) as reader:
        reader.enter(0)
        with pytest.raises(StoreError, match="lacks a blob"):
            reader.enter(1)


def test_leaving_early_stops_the_fetching(blobs: Watched) -> None:
    files = make_files(blobs, 50)
    with open_shards(blobs, files, [(n,) for n in range(50)], config(blobs, 2 * SIZE)) as reader:
        reader.enter(0)
    assert not [thread for thread in threading.enumerate() if thread.name == "shard-cache"]


def test_an_unwritable_folder_is_said(blobs: Watched, tmp_path: Path) -> None:
    files = make_files(blobs, 1)
    (tmp_path / "file").write_bytes(b"")
    settings = CacheConfig(folder=str(tmp_path / "file" / "cache"), force=True)
    with pytest.raises(InputError, match="cache folder"), open_shards(blobs, files, [(0,)], settings):
        pass
