import os
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.common.blobs import Blobs, blob_key, digest_file
from components.common.canonical import digest_bytes
from components.common.errors import StoreError
from components.common.keep import REFRESH_AGE_S
from components.common.store.base import DigestMismatchError, NotFoundError
from components.common.store.file import FileStore

NOTHING = digest_bytes(b"this was never stored")


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return Blobs(FileStore(tmp_path / "store"))


def stored(blobs: Blobs, digest: str) -> Path:
    path = blobs.local_path(digest)
    assert path is not None
    return path


def test_a_blob_lies_under_its_digest(blobs: Blobs) -> None:
    digest, size = blobs.put(b"abc")
    hexa = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert (digest, size) == (f"sha256:{hexa}", 3)
    assert [info.key for info in blobs.store.list()] == [f"blobs/ba/{hexa}"]
    assert (blobs.read(digest), blobs.size(digest), blobs.exists(digest)) == (b"abc", 3, True)


def test_a_file_is_stored_as_its_bytes_are(blobs: Blobs, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 3_000_000)
    assert blobs.put(path) == blobs.put(b"x" * 3_000_000) == digest_file(path)


def test_a_blob_is_written_once(blobs: Blobs) -> None:
    digest, _ = blobs.put(b"abc")
    inode = stored(blobs, digest).stat().st_ino
    blobs.put(b"abc")
    assert stored(blobs, digest).stat().st_ino == inode


def test_an_old_blob_is_made_young_when_it_is_put_again(blobs: Blobs) -> None:
    digest, _ = blobs.put(b"abc")
    old = time.time() - REFRESH_AGE_S - 60
    os.utime(stored(blobs, digest), (old, old))
    blobs.put(b"abc")
    assert time.time() - stored(blobs, digest).stat().st_mtime < 60


def test_a_blob_of_the_wrong_size_is_written_anew(blobs: Blobs) -> None:
    digest, _ = blobs.put(b"abcdef")
    stored(blobs, digest).write_bytes(b"abc")
    blobs.put(b"abcdef")
    assert blobs.read(digest) == b"abcdef"


def test_damage_is_told(blobs: Blobs, tmp_path: Path) -> None:
    digest, _ = blobs.put(b"abcdef")
    stored(blobs, digest).write_bytes(b"abcdeX")
    with pytest.raises(DigestMismatchError, match="damaged"):
        blobs.read(digest)
    with blobs.open(digest) as stream, pytest.raises(DigestMismatchError):
        list(iter(lambda: stream.read(2), b""))
    with pytest.raises(DigestMismatchError):
        blobs.fetch(digest, tmp_path / "copy")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["store"]


def test_a_missing_blob_is_named(blobs: Blobs, tmp_path: Path) -> None:
    assert not blobs.exists(NOTHING)
    assert blobs.local_path(NOTHING) is None
    with pytest.raises(NotFoundError, match=NOTHING):
        blobs.read(NOTHING)
    with pytest.raises(NotFoundError, match=NOTHING):
        blobs.size(NOTHING)
    with pytest.raises(NotFoundError, match=NOTHING):
        blobs.fetch(NOTHING, tmp_path / "copy")
    with pytest.raises(NotFoundError, match=NOTHING), blobs.open(NOTHING, 1, 2):
        pass


@pytest.mark.parametrize(
    "digest", ["", "abc", "sha256:abc", "sha256:" + "A" * 64, "sha256:" + "a" * 63 + "/"]
)
def test_what_is_no_digest(digest: str) -> None:
    with pytest.raises(StoreError, match="not a digest"):
        blob_key(digest)


def test_an_unreadable_source_is_the_users(blobs: Blobs, tmp_path: Path) -> None:
    with pytest.raises(Exception, match="cannot be read"):
        blobs.put(tmp_path / "none")


def test_errors_of_the_caller_stay_the_callers(blobs: Blobs) -> None:
    digest, _ = blobs.put(b"abc")
    with pytest.raises(OSError, match="mine"), blobs.open(digest):
        raise OSError("mine")


@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=200), cuts=st.tuples(st.integers(0, 200), st.integers(0, 200)))
def test_any_range_of_any_blob(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, cuts: tuple[int, int]
) -> None:
    blobs = Blobs(FileStore(tmp_path_factory.getbasetemp() / "blobs"))
    digest, size = blobs.put(data)
    assert (digest, size) == (digest_bytes(data), len(data))
    assert blobs.read(digest) == data
    first, last = sorted(min(cut, len(data)) for cut in cuts)
    with blobs.open(digest, first, last - first) as stream:
        assert stream.read() == data[first:last]
    with blobs.open(digest) as stream:
        assert b"".join(iter(lambda: stream.read(7), b"")) == data
