"""Shards: plain WebDataset tar files, the same bytes for the same samples.

A sample is two members that share a stem: `<key>.<npy|jpg|png>` (the image) and `<key>.cls` (its label, ASCII). Any
WebDataset reader opens them, and so does `tar`; Conveyor itself reads images at the offsets that the index holds.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from components.common.tar import BLOCK, END, tar_header
from components.data.index import SampleFormat

NPY_HEADER_BYTES = 128
"""Length of the header that `npy_header` writes: the pixels begin there."""
KEY_DIGITS = 20


@dataclass(frozen=True, slots=True)
class Sample:
    """What goes into a shard."""

    key: str
    """The first 20 hex digits of the image's digest."""
    label: int
    payload: bytes | memoryview
    """The image's file: its pixels after `npy_header`, or encoded."""


def npy_header(shape: Sequence[int]) -> bytes:
    """Header of a .npy file (version 1.0, numpy.lib.format) of C-ordered uint8, always 128 bytes long."""
    text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({', '.join(map(str, shape))}), }}"
    room = NPY_HEADER_BYTES - 10
    return b"\x93NUMPY\x01\x00" + room.to_bytes(2, "little") + text.ljust(room - 1).encode() + b"\n"


def write_shard(path: Path, samples: Iterable[Sample], extension: SampleFormat) -> list[tuple[int, int]]:
    """Write a tar of the samples in the order given; returns offset and length in bytes of each image's file."""
    places = []
    with path.open("wb") as file:
        offset = 0
        for sample in samples:
            size = len(sample.payload)
            label = str(sample.label).encode()
            places.append((offset + BLOCK, size))
            parts = (
                tar_header(f"{sample.key}.{extension}", size),
                sample.payload,
                bytes(-size % BLOCK),
                tar_header(f"{sample.key}.cls", len(label)),
                label.ljust(BLOCK, b"\0"),
            )
            file.writelines(parts)
            offset += sum(map(len, parts))
        file.write(END)
    return places
