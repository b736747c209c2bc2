"""Shards: plain WebDataset tar files, the same bytes for the same samples.

A sample is two members that share a stem: `<key>.<npy|jpg|png>` (the image) and `<key>.cls` (its label, ASCII). Any
WebDataset reader opens them, and so does `tar`; Conveyor itself reads images at the offsets that the index holds.
"""

import tarfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from components.data.index import SampleFormat

BLOCK = 512
END = bytes(2 * BLOCK)
NPY_HEADER_BYTES = 128
"""Length of the header that `encode_npy` writes: the pixels begin there."""
KEY_DIGITS = 20


@dataclass(frozen=True, slots=True)
class Sample:
    """What goes into a shard."""

    key: str
    """The first 20 hex digits of the image's digest."""
    label: int
    payload: bytes | memoryview


def encode_npy(pixels: NDArray[np.uint8]) -> bytes:
    """An array as a .npy file whose header is always 128 bytes long."""
    return npy_header(pixels.shape) + pixels.tobytes()


def npy_header(shape: Sequence[int]) -> bytes:
    """Version 1.0 header of a C-ordered uint8 array (numpy.lib.format)."""
    text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({', '.join(map(str, shape))}), }}"
    room = NPY_HEADER_BYTES - 10 - 1
    return b"\x93NUMPY\x01\x00" + (room + 1).to_bytes(2, "little") + text.ljust(room).encode() + b"\n"


def write_shard(path: Path, samples: Iterable[Sample], extension: SampleFormat) -> list[tuple[int, int]]:
    """Write a tar of the samples in the order given; returns offset and length in bytes of each image's payload."""
    places = []
    with path.open("wb") as file:
        offset = 0
        for sample in samples:
            size = len(sample.payload)
            label = str(sample.label).encode()
            places.append((offset + BLOCK, size))
            parts = (
                _header(f"{sample.key}.{extension}", size),
                sample.payload,
                bytes(-size % BLOCK),
                _header(f"{sample.key}.cls", len(label)),
                label.ljust(BLOCK, b"\0"),
            )
            file.writelines(parts)
            offset += sum(map(len, parts))
        file.write(END)
    return places


def _header(name: str, size: int) -> bytes:
    """A ustar header without owner, host or clock."""
    info = tarfile.TarInfo(name)
    info.size = size
    info.mode = 0o644
    return info.tobuf(tarfile.USTAR_FORMAT, "ascii", "strict")
