"""What every store must do, run unchanged against each kind: a folder, MinIO, versitygw, or what there is."""

import io
import os
import pickle
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from threading import Barrier
from typing import TypeVar

import pytest

from components.common.canonical import digest_bytes
from components.common.errors import StoreError
from components.common.store import Store, open_store
from components.common.store.base import DigestMismatchError, NotFoundError
from support.store_workers import SPAWN, race_count, race_create, write_and_get_stuck

pytestmark = pytest.mark.integration

T = TypeVar("T")

MIB = 1 << 20
LARGE = os.urandom(12 * MIB + 12345)
"""Three parts of 5 MiB on S3."""


def keys(store: Store, prefix: str = "") -> list[str]:
    return [info.key for info in store.list(prefix) if not info.key.startswith("probes/")]


def together(num: int, action: Callable[[int], T]) -> list[T]:
    """Run `action(0)` to `action(num - 1)` at the same moment, each in a thread."""
    barrier = Barrier(num)

    def go(index: int) -> T:
        barrier.wait()
        return action(index)

    with ThreadPoolExecutor(num) as pool:
        return list(pool.map(go, range(num)))


def test_the_probe_accepts_it(store: Store) -> None:
    store.check()
    assert keys(store) == []


def test_what_is_put_is_read(store: Store) -> None:
    store.put("a/b", b"one")
    assert store.read("a/b")[0] == b"one"
    store.put("a/b", b"two, longer")
    assert store.read("a/b")[0] == b"two, longer"
    with store.open("a/b") as stream:
        assert stream.read(3) == b"two"
        assert stream.read() == b", longer"


def test_empty_objects(store: Store) -> None:
    store.put("empty", b"")
    assert store.read("empty")[0] == b""
    info = store.stat("empty")
    assert info is not None
    assert info.size_bytes == 0
    with store.open("empty") as stream:
        assert stream.read() == b""


def test_files_and_streams_are_sources(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "source"
    path.write_bytes(b"from a file")
    store.put("file", path)
    stream = io.BytesIO(b"skipped, from a stream")
    stream.seek(9)
    store.put("stream", stream)
    assert store.read("file")[0] == b"from a file"
    assert store.read("stream")[0] == b"from a stream"


def test_large_objects_go_in_parts(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "large"
    path.write_bytes(LARGE)
    store.put("large", path, digest=digest_bytes(LARGE))
    with store.open("large") as stream:
        assert stream.read() == LARGE
    with store.open("large", offset=5 * MIB - 2, length=4) as stream:
        assert stream.read() == LARGE[5 * MIB - 2 : 5 * MIB + 2]


@pytest.mark.parametrize(
    ("offset", "length", "expected"),
    [(0, 3, b"012"), (7, None, b"789"), (9, 1, b"9"), (0, None, b"0123456789"), (10, None, b""), (4, 0, b"")],
)
def test_ranges(store: Store, offset: int, length: int | None, expected: bytes) -> None:
    store.put("digits", b"0123456789")
    with store.open("digits", offset=offset, length=length) as stream:
        assert stream.read() == expected


@pytest.mark.parametrize(("offset", "length"), [(11, None), (0, 11), (10, 1), (-1, None), (5, -1)])
def test_ranges_outside_the_object_are_refused(store: Store, offset: int, length: int | None) -> None:
    store.put("digits", b"0123456789")
    with (
        pytest.raises(StoreError, match="does not lie within"),
        store.open("digits", offset=offset, length=length),
    ):
        pass


def test_what_is_missing(store: Store) -> None:
    assert store.stat("none") is None
    with pytest.raises(NotFoundError, match="no such object"):
        store.read("none")
    with pytest.raises(NotFoundError), store.open("none"):
        pass
    with pytest.raises(NotFoundError), store.open("none", offset=3, length=0):
        pass
    store.delete("none")
    assert not store.touch("none")
    assert not store.swap("none", b"1", tag='"0123"')
    assert keys(store) == []


def test_delete(store: Store) -> None:
    store.put("a/b/c", b"1")
    store.put("a/d", b"2")
    store.delete("a/b/c")
    assert store.stat("a/b/c") is None
    assert keys(store) == ["a/d"]


def test_stat_and_touch(store: Store) -> None:
    store.put("old", b"12345")
    before = store.stat("old")
    assert before is not None
    assert before.size_bytes == 5
    assert abs(before.modified - time.time()) < 60
    assert store.touch("old")
    after = store.stat("old")
    assert after is not None
    assert after.modified >= before.modified
    assert store.read("old")[0] == b"12345"


def test_list_in_key_order_by_prefix(store: Store) -> None:
    names = ["a-b", "a.b", "a/b", "a/b-", "aa", "b/a/c", "b/ab", "b/b", "B/a"]
    for name in names:
        store.put(name, name.encode())
    assert keys(store) == sorted(names)
    assert keys(store, "a/") == ["a/b", "a/b-"]
    assert keys(store, "b/a") == ["b/a/c", "b/ab"]
    assert keys(store, "c") == []
    assert keys(store, "a/b/c/") == []
    sizes = {info.key: info.size_bytes for info in store.list("b/")}
    assert sizes == {"b/a/c": 5, "b/ab": 4, "b/b": 3}


def test_list_more_than_one_page(store: Store) -> None:
    names = [f"many/{number:05d}" for number in range(1010)]
    store.put("many/00000", b"")
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda name: store.put(name, b""), names))
    assert keys(store) == names
    assert keys(store, "many/010") == names[1000:]


@pytest.mark.parametrize(
    "key",
    [
        "",
        "/a",
        "a/",
        "a//b",
        "..",
        "a/../b",
        "./a",
        ".hidden",
        "a/.tmp",
        "a b",
        "a\n",
        "ä",
        "a\\b",
        "a?b",
        "x" * 1000,
    ],
)
def test_keys_that_are_refused(store: Store, key: str) -> None:
    calls: list[Callable[[], object]] = [
        lambda: store.put(key, b""),
        lambda: store.create(key, b""),
        lambda: store.read(key),
        lambda: store.stat(key),
        lambda: store.delete(key),
        lambda: store.swap(key, b"", tag=None),
        lambda: store.touch(key),
    ]
    for call in calls:
        with pytest.raises(StoreError, match="not a valid object name"):
            call()


@pytest.mark.parametrize("prefix", ["..", "../", "/", "a//", "a/../", ".tmp"])
def test_prefixes_that_are_refused(store: Store, prefix: str) -> None:
    with pytest.raises(StoreError, match="not a valid beginning"):
        list(store.list(prefix))


@pytest.mark.parametrize("data", [b"small", LARGE], ids=["small", "in-parts"])
def test_a_wrong_digest_leaves_nothing(store: Store, data: bytes) -> None:
    with pytest.raises(DigestMismatchError, match="do not fit"):
        store.put("wrong", data, digest=digest_bytes(b"something else"))
    assert store.stat("wrong") is None
    assert keys(store) == []
    assert list(store.leftovers(time.time() + 60)) == []


def test_a_wrong_digest_keeps_what_was_there(store: Store) -> None:
    store.put("kept", b"good")
    with pytest.raises(DigestMismatchError):
        store.put("kept", b"bad", digest=digest_bytes(b"good"))
    assert store.read("kept")[0] == b"good"


def test_create_once(store: Store) -> None:
    assert store.create("once", b"first")
    assert not store.create("once", b"second")
    assert not store.create("once", b"first")
    assert store.read("once")[0] == b"first"
    store.delete("once")
    assert store.create("once", b"third")


def test_create_race_of_threads_has_one_winner(store: Store) -> None:
    store.stat("warm-up")

    def create(index: int, key: str) -> bool:
        return store.create(key, bytes([index]))

    for key in ("race/0", "race/1", "race/2", "race/3"):
        won = together(16, partial(create, key=key))
        assert won.count(True) == 1
        assert store.read(key)[0] == bytes([won.index(True)])


def test_create_race_of_the_same_bytes_has_one_winner(store: Store) -> None:
    assert together(16, lambda _: store.create("same", b"same")).count(True) == 1


def test_create_race_of_processes_has_one_winner(store: Store, store_url: str) -> None:
    num = 3
    barrier, results = SPAWN.Barrier(num), SPAWN.Queue()
    args = [(store_url, "race", f"p{index}".encode(), barrier, results) for index in range(num)]
    processes = [SPAWN.Process(target=race_create, args=each, daemon=True) for each in args]
    for process in processes:
        process.start()
    outcomes = [results.get(timeout=90) for _ in processes]
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    winners = [name for name, won in outcomes if won]
    assert len(winners) == 1
    assert store.read("race")[0] == winners[0]


def test_swap(store: Store) -> None:
    assert store.swap("pointer", b"1", tag=None)
    assert not store.swap("pointer", b"2", tag=None)
    data, tag = store.read("pointer")
    assert data == b"1"
    assert store.swap("pointer", b"2", tag=tag)
    assert not store.swap("pointer", b"3", tag=tag)
    assert store.read("pointer")[0] == b"2"
    store.delete("pointer")
    assert not store.swap("pointer", b"4", tag=tag)
    assert store.stat("pointer") is None


def test_swap_race_has_one_winner(store: Store) -> None:
    def swap(index: int, tag: str) -> bool:
        return store.swap("pointer", os.urandom(8) + bytes([index]), tag=tag)

    store.put("pointer", b"start")
    for _ in range(4):
        won = together(16, partial(swap, tag=store.read("pointer")[1]))
        assert won.count(True) == 1
        assert store.read("pointer")[0][-1] == won.index(True)


def test_swap_loses_no_update_between_processes(store: Store, store_url: str) -> None:
    num, times = 2, 10
    store.put("count", b"0")
    barrier = SPAWN.Barrier(num)
    processes = [
        SPAWN.Process(target=race_count, args=(store_url, "count", times, barrier), daemon=True)
        for _ in range(num)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(90)
        assert process.exitcode == 0
    assert store.read("count")[0] == str(num * times).encode()


def test_readers_see_whole_objects_while_they_are_replaced(store: Store) -> None:
    versions = [bytes([index]) * 200_000 for index in range(4)]
    store.put("busy", versions[0])

    def act(index: int) -> set[bytes]:
        if index < 2:
            for turn in range(12):
                store.put("busy", versions[turn % 4])
            return set()
        return {store.read("busy")[0] for _ in range(12)}

    assert set().union(*together(5, act)) <= set(versions)


def test_a_killed_writer_leaves_nothing_to_see(store: Store, store_url: str) -> None:
    reached = SPAWN.Event()
    store.put("kept", b"old")
    on_disk = store.local_path("kept") is not None
    for killed_before, key in enumerate(("kept", "new")):
        reached.clear()
        args = (store_url, key, 12 * MIB, 7 * MIB, reached)
        process = SPAWN.Process(target=write_and_get_stuck, args=args, daemon=True)
        process.start()
        assert reached.wait(60)
        # Nobody takes the work of a living writer away: on a disk its lock tells, on S3 only its age does.
        if on_disk:
            assert len(list(store.leftovers(time.time() + 60))) == killed_before
        process.kill()
        process.join(30)
        assert process.exitcode == -9
    assert keys(store) == ["kept"]
    assert store.read("kept")[0] == b"old"
    assert store.create("new", b"mine")
    for leftover in list(store.leftovers(time.time() + 60)):
        store.remove_leftover(leftover)
    assert list(store.leftovers(time.time() + 60)) == []
    assert keys(store) == ["kept", "new"]


def test_a_store_travels_to_other_processes(store: Store) -> None:
    store.put("a", b"1")
    again: Store = pickle.loads(pickle.dumps(store))  # noqa: S301 - our own
    assert again.url == store.url
    assert again.read("a")[0] == b"1"


def test_the_url_opens_the_same_store(store: Store) -> None:
    store.put("a", b"1")
    assert open_store(store.url).read("a")[0] == b"1"
