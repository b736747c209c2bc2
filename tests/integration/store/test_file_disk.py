"""The file store on disks that are full, read-only or somebody else's, and with links and locks in its way."""

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from components.common.blobs import Blobs
from components.common.errors import InputError, StoreError
from components.common.store import open_store
from components.common.store.file import OWN, FileStore
from support.store_workers import SPAWN, hold_lock, put_as_nobody

pytestmark = pytest.mark.integration


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode != 0:
        pytest.skip(
            f"DISK FULL AND READ-ONLY ARE NOT TESTED: mounting a tmpfs is not permitted ({mounted.stderr})"
        )
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_full_disk(small_disk: Path, tmp_path: Path) -> None:
    store = FileStore(small_disk / "store")
    store.put("kept", b"old")
    large = tmp_path / "large"
    large.write_bytes(bytes(2 << 20))
    calls: list[Callable[[], object]] = [
        lambda: store.put("new", large),
        lambda: store.put("kept", large),
        lambda: store.create("new", bytes(2 << 20)),
        lambda: store.swap("kept", bytes(2 << 20), tag=store.read("kept")[1]),
        lambda: Blobs(store).put(large),
    ]
    for call in calls:
        with pytest.raises(StoreError, match="the disk of the store is full") as caught:
            call()
        assert "conveyor gc" in (caught.value.todo or "")
    assert files(small_disk / "store") == [f"{OWN}/lock", "kept"]
    assert store.read("kept")[0] == b"old"
    store.put("new", b"small enough")  # what failed has left its space free


def test_a_blob_that_does_not_fit_this_disk(small_disk: Path, tmp_path: Path) -> None:
    blobs = Blobs(FileStore(tmp_path / "store"))
    digest, _ = blobs.put(bytes(2 << 20))
    with pytest.raises(StoreError, match="cannot be copied to this disk"):
        blobs.fetch(digest, small_disk / "copy")
    assert files(small_disk) == []


def test_a_read_only_disk(small_disk: Path) -> None:
    store = FileStore(small_disk / "store")
    store.put("kept", b"old")
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    calls: list[Callable[[], object]] = [
        lambda: store.put("new", b"1"),
        lambda: store.create("new", b"1"),
        lambda: store.swap("kept", b"1", tag=store.read("kept")[1]),
        lambda: store.delete("kept"),
        lambda: store.touch("kept"),
        store.check,
    ]
    for call in calls:
        with pytest.raises(StoreError, match="read-only") as caught:
            call()
        assert "--store" in (caught.value.todo or "")
    assert store.read("kept")[0] == b"old"
    assert [info.key for info in store.list()] == ["kept"]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, who alone can make a folder of somebody else")
def test_somebody_elses_folder(tmp_path: Path) -> None:
    ours = [folder for folder in tmp_path.parents if "pytest-of-" in str(folder)]
    for folder in (tmp_path, *ours):
        folder.chmod(0o755)
    results = SPAWN.Queue()
    process = SPAWN.Process(target=put_as_nobody, args=(str(tmp_path / "store"), results), daemon=True)
    process.start()
    said = results.get(timeout=60)
    process.join(30)
    assert "no permission in the store's folder" in said
    assert "give this user the right" in said


def test_links_inside_the_store_are_refused(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret")
    store = FileStore(tmp_path / "store")
    store.put("a/b", b"1")
    (tmp_path / "store" / "a" / "link").symlink_to(outside)
    (tmp_path / "store" / "file").symlink_to(outside / "secret")
    for key in ("a/link/secret", "file", "a/link/new"):
        calls: list[Callable[[], object]] = [
            lambda key=key: store.read(key),  # type: ignore[misc]
            lambda key=key: store.put(key, b"2"),  # type: ignore[misc]
            lambda key=key: store.create(key, b"2"),  # type: ignore[misc]
            lambda key=key: store.delete(key),  # type: ignore[misc]
            lambda key=key: store.local_path(key),  # type: ignore[misc]
        ]
        for call in calls:
            with pytest.raises(StoreError, match="symbolic link inside the store"):
                call()
    assert [info.key for info in store.list()] == ["a/b"]
    assert (outside / "secret").read_bytes() == b"secret"
    assert files(outside) == ["secret"]


def test_the_root_itself_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    store = open_store(str(tmp_path / "link"))
    store.put("a", b"1")
    assert (tmp_path / "real" / "a").read_bytes() == b"1"


def test_the_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    store = FileStore(tmp_path)
    store.put("pointer", b"1")
    reached = SPAWN.Event()
    process = SPAWN.Process(target=hold_lock, args=(str(tmp_path), reached), daemon=True)
    process.start()
    assert reached.wait(60)
    process.kill()
    process.join(30)
    assert store.swap("pointer", b"2", tag=store.read("pointer")[1])


def test_keys_that_are_folders_and_folders_that_are_keys(tmp_path: Path) -> None:
    store = FileStore(tmp_path)
    store.put("a/b", b"1")
    for call in (
        lambda: store.put("a", b""),
        lambda: store.create("a", b""),
        lambda: store.put("a/b/c", b""),
    ):
        with pytest.raises(StoreError, match="already"):
            call()
    assert store.stat("a") is None
    assert store.stat("a/b/c") is None
    assert [info.key for info in store.list()] == ["a/b"]


def test_a_file_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(InputError, match="must be a folder"):
        open_store(str(tmp_path / "file"))


def test_a_file_system_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_link(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_link)
    store = FileStore(tmp_path)
    assert store.create("a", b"1")
    assert not store.create("a", b"2")
    assert store.read("a")[0] == b"1"
    assert list(store.leftovers(time.time() + 60)) == []


def test_old_leftovers_are_told_from_work_in_progress(tmp_path: Path) -> None:
    store = FileStore(tmp_path)
    store.put("a", b"1")
    left = tmp_path / OWN / "dead.tmp"
    left.write_bytes(b"half")
    assert list(store.leftovers(time.time() - 3600)) == []
    (found,) = store.leftovers(time.time() + 60)
    assert found.size_bytes == 4
    store.remove_leftover(found)
    assert not left.exists()
