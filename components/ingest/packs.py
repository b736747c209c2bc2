"""Packs: plain tar files of some 64 MB, named by their digest, with nothing in them but the images' bytes."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from components.common.blobs import Blobs
from components.common.tar import BLOCK, END, tar_header


@dataclass
class PackWriter:
    """Appends images to a pack in `folder`; a full one goes to the store and the next begins."""

    blobs: Blobs
    folder: Path
    limit_bytes: int
    done: dict[str, tuple[str, int]] = field(default_factory=dict)
    """Finished packs: 64 hex digits → (digest, size in bytes)."""
    _images: list[tuple[int, int]] = field(default_factory=list)
    _placed: dict[int, tuple[str, int]] = field(default_factory=dict)
    _size: int = 0

    def __post_init__(self) -> None:
        self._path = self.folder / "pack.tar"
        self._file = self._path.open("wb")

    def add(self, ident: int, digest: str, fmt: str, data: bytes) -> None:
        """Append one image; `ident` is how `placed` names it."""
        padded = -len(data) % BLOCK
        if self._images and self._size + BLOCK + len(data) + padded + len(END) > self.limit_bytes:
            self._finish()
        self._file.write(tar_header(f"{digest}.{fmt}", len(data)))
        self._file.write(data)
        if padded:
            self._file.write(bytes(padded))
        self._images.append((ident, self._size + BLOCK))
        self._size += BLOCK + len(data) + padded

    def placed(self) -> dict[int, tuple[str, int]]:
        """Where each image lies: ident → (pack, offset). Ends the last pack."""
        self._finish()
        return self._placed

    def _finish(self) -> None:
        if not self._images:
            return
        self._file.write(END)
        self._file.flush()
        digest, size = self.blobs.put(self._path)
        name = digest.removeprefix("sha256:")
        self.done[name] = (digest, size)
        self._placed.update((ident, (name, offset)) for ident, offset in self._images)
        self._images.clear()
        self._size = 0
        self._file.seek(0)
        self._file.truncate()

    def close(self) -> None:
        self._file.close()
        self._path.unlink(missing_ok=True)


@contextmanager
def writing_packs(blobs: Blobs, folder: Path, limit_bytes: int) -> Iterator[PackWriter]:
    """A writer whose scratch file is gone at the end."""
    writer = PackWriter(blobs, folder, limit_bytes)
    try:
        yield writer
    finally:
        writer.close()
