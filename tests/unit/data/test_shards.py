"""Shards: the same bytes for the same samples, and readable by anybody who knows tar and numpy."""

import hashlib
import io
import tarfile
from pathlib import Path

import numpy as np
import pytest

from components.common.tar import tar_header
from components.data.shards import NPY_HEADER_BYTES, Sample, npy_header, write_shard

KEYS = ["00112233445566778899", "aabbccddeeff00112233", "ffffffffffffffffffff"]


def raw(pixels: np.ndarray) -> bytes:
    return npy_header(pixels.shape) + pixels.tobytes()


@pytest.mark.parametrize("shape", [(1, 1, 1), (28, 28, 1), (256, 341, 3), (4096, 65535, 3)])
def test_npy_header_is_one_that_numpy_reads(shape: tuple[int, ...]) -> None:
    header = npy_header(shape)
    assert len(header) == NPY_HEADER_BYTES
    stream = io.BytesIO(header)
    assert np.lib.format.read_magic(stream) == (1, 0)
    assert np.lib.format.read_array_header_1_0(stream) == (shape, False, np.dtype(np.uint8))
    assert stream.tell() == NPY_HEADER_BYTES


def test_a_shard_is_a_tar_of_webdataset_samples(tmp_path: Path) -> None:
    pixels = [np.full((9, 7, 3), value, dtype=np.uint8) for value in range(3)]
    samples = [
        Sample(key, 10 * n, raw(array)) for n, (key, array) in enumerate(zip(KEYS, pixels, strict=True))
    ]
    path = tmp_path / "shard.tar"
    places = write_shard(path, samples, "npy")
    data = path.read_bytes()
    for (offset, length), array in zip(places, pixels, strict=True):
        np.testing.assert_array_equal(np.load(io.BytesIO(data[offset : offset + length])), array)
        assert data[offset + NPY_HEADER_BYTES : offset + length] == array.tobytes()
    with tarfile.open(path) as tar:
        members = tar.getmembers()
        # WebDataset groups consecutive members by the name up to its first dot.
        assert [m.name for m in members] == [f"{key}.{ext}" for key in KEYS for ext in ("npy", "cls")]
        assert [tar.extractfile(m).read() for m in members[1::2]] == [b"0", b"10", b"20"]  # type: ignore[union-attr]
        assert {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode) for m in members} == {
            (0, 0, 0, "", "", 0o644)
        }


def test_golden_bytes(tmp_path: Path) -> None:
    path = tmp_path / "shard.tar"
    write_shard(path, [Sample(KEYS[0], 3, raw(np.arange(16, dtype=np.uint8).reshape(4, 4, 1)))], "npy")
    assert hashlib.sha256(path.read_bytes()).hexdigest() == GOLDEN


GOLDEN = "b1469e1c4122c052f53d0a87b16e358d75c8973ad5fae61a79ae4a55a8f73133"


@pytest.mark.parametrize("name", ["a" * 101, "ä"])
def test_names_that_do_not_fit_are_refused(name: str) -> None:
    with pytest.raises(ValueError):
        tar_header(name, 1)


def test_header_is_the_one_that_tarfile_writes() -> None:
    info = tarfile.TarInfo("some/name.jpg")
    info.size, info.mode = 12345, 0o644
    theirs = tarfile.TarInfo.frombuf(info.tobuf(tarfile.USTAR_FORMAT), "ascii", "strict")
    ours = tarfile.TarInfo.frombuf(tar_header("some/name.jpg", 12345), "ascii", "strict")
    assert (ours.name, ours.size, ours.mode, ours.type) == (
        theirs.name,
        theirs.size,
        theirs.mode,
        theirs.type,
    )
