"""What is known about good images, by the digest of their bytes: columns, not objects, since there are many."""

from array import array
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from components.ingest.check import Checked
from components.ingest.features import THUMB_BYTES


@dataclass
class Contents:
    """Decoded images; position i of every column is one image."""

    index: dict[str, int] = field(default_factory=dict)
    """Digest of the bytes (64 hex digits) → position."""
    digest: list[str] = field(default_factory=list)
    format: list[str] = field(default_factory=list)
    height: "array[int]" = field(default_factory=lambda: array("q"))
    width: "array[int]" = field(default_factory=lambda: array("q"))
    size_bytes: "array[int]" = field(default_factory=lambda: array("q"))
    channels: "array[int]" = field(default_factory=lambda: array("b"))
    pixels: list[str] = field(default_factory=list)
    phash: "array[int]" = field(default_factory=lambda: array("Q"))
    pack: list[str | None] = field(default_factory=list)
    """64 hex digits; None where the bytes are not in a pack (yet)."""
    offset: "array[int]" = field(default_factory=lambda: array("q"))
    _thumb: bytearray = field(default_factory=bytearray)

    def __len__(self) -> int:
        return len(self.digest)

    def add_checked(self, checked: Checked, i: int) -> int:
        """Note image `i` of a checked batch; returns its position."""
        digest, fmt, pixels = checked.digest[i], checked.format[i], checked.pixels[i]
        assert digest is not None
        assert fmt is not None
        assert pixels is not None
        return self.add(
            digest,
            fmt,
            height=int(checked.size[i, 0]),
            width=int(checked.size[i, 1]),
            size_bytes=int(checked.size[i, 2]),
            channels=1 if checked.grey[i] else 3,
            pixels=pixels,
            phash=int(checked.phash[i]),
            thumb=checked.thumb[i].tobytes(),
        )

    def add(
        self,
        digest: str,
        fmt: str,
        *,
        height: int,
        width: int,
        size_bytes: int,
        channels: int,
        pixels: str,
        phash: int,
        thumb: bytes,
        pack: str | None = None,
        offset: int = 0,
    ) -> int:
        known = self.index.get(digest)
        if known is not None:
            return known
        position = self.index[digest] = len(self.digest)
        self.digest.append(digest)
        self.format.append(fmt)
        self.height.append(height)
        self.width.append(width)
        self.size_bytes.append(size_bytes)
        self.channels.append(channels)
        self.pixels.append(pixels)
        self.phash.append(phash)
        self._thumb += thumb
        self.pack.append(pack)
        self.offset.append(offset)
        return position

    def thumbs(self, positions: Sequence[int] | NDArray[np.int64]) -> NDArray[np.uint8]:
        """(n, 192)."""
        every = np.frombuffer(self._thumb, np.uint8).reshape(-1, THUMB_BYTES)
        return every[np.asarray(positions, np.int64)]

    def places(self) -> dict[str, tuple[str, int]]:
        """Digest → (pack, offset) of all packed images."""
        placed = zip(self.digest, self.pack, self.offset, strict=True)
        return {digest: (pack, offset) for digest, pack, offset in placed if pack is not None}

    def forget_packs(self, gone: AbstractSet[str]) -> None:
        """The bytes in these packs are lost, and must be packed anew."""
        self.pack = [None if pack in gone else pack for pack in self.pack]
