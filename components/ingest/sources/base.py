"""What every source offers: a listing, and the bytes of one entry."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

# Suffix → format, of what is decoded here. What else people keep in image folders is quarantined, and says so.
FORMAT_BY_SUFFIX = {
    "jpg": "jpeg", "jpeg": "jpeg", "jpe": "jpeg", "jfif": "jpeg", "png": "png", "webp": "webp", "bmp": "bmp",
    "dib": "bmp", "tif": "tiff", "tiff": "tiff",
}  # fmt: skip
UNSUPPORTED_SUFFIXES = frozenset(
    {
        "gif",
        "avif",
        "heic",
        "heif",
        "jp2",
        "j2k",
        "jxl",
        "ico",
        "svg",
        "psd",
        "raw",
        "dng",
        "cr2",
        "nef",
        "arw",
    }
    | {"ppm", "pgm", "pbm", "exr", "hdr", "tga"}
)


@dataclass(frozen=True, slots=True)
class Entry:
    """One candidate image. Pickled by the hundred to the workers, so it is small."""

    name: str
    """Relative to the source, `/`-separated, printable; what the manifest holds."""
    size_bytes: int
    stamp: str
    """What changes when the content does: mtime in ns, an ETag, a checksum."""
    locator: str
    """What `read` needs to find it."""
    label: str | None = None
    """Class name, where the source itself says it (a list's column)."""


@dataclass
class Listing:
    """What a source holds, sorted by name."""

    entries: list[Entry]
    ignored: dict[str, int] = field(default_factory=dict)
    """Why something was not even looked at (not an image's name, hidden, …) → count."""
    notes: list[str] = field(default_factory=list)
    """Sentences for the report (a link that leads back, …)."""


class ChangedError(Exception):
    """The entry is no longer what the listing said."""


class DamagedError(Exception):
    """What the entry is kept in is damaged just there."""


class UnreadableError(Exception):
    """The entry cannot be read at all; says why."""


class Source(Protocol):
    """Where images come from. Picklable (without its listing); workers call `read`."""

    parallel_reads: int
    """Reads at once that pay: more than one where each waits for a network."""

    def fingerprint(self) -> str:
        """Digest of what is there now, cheaply: names, sizes and times, no content. `list` then gives the same."""
        ...

    def list(self, scratch: Path) -> Listing:
        """All candidates, in the order of their names. What must be unpacked goes to the folder `scratch`."""
        ...

    def read(self, entry: Entry, limit: int) -> bytes:
        """The bytes of one entry, at most `limit`. Raises `ChangedError`, `DamagedError`, `UnreadableError`."""
        ...


def printable(name: str) -> str:
    """A name that any text file can hold: bytes that are not UTF-8 become their codes, control characters too."""
    if name.isascii() and name.isprintable():
        return name
    text = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)


def suffix_of(name: str) -> str:
    """Lower-case suffix without the dot, empty where there is none."""
    base = name.rpartition("/")[2]
    stem, dot, suffix = base.rpartition(".")
    return suffix.lower() if dot and stem else ""


def why_ignored(name: str) -> str | None:
    """Why an entry of that name is no candidate, None where it is one."""
    parts = name.split("/")
    if any(part.startswith(".") for part in parts) or "__MACOSX" in parts:
        return "hidden"
    suffix = suffix_of(name)
    if not suffix or suffix in FORMAT_BY_SUFFIX or suffix in UNSUPPORTED_SUFFIXES:
        return None
    return f"not an image: .{suffix}" if suffix.isascii() and suffix.isalnum() else "not an image"


def fingerprint_entries(entries: Iterable[Entry]) -> str:
    """Digest over names, sizes, stamps and labels."""
    hasher = hashlib.sha256()
    for e in entries:
        hasher.update(f"{e.name}\0{e.size_bytes}\0{e.stamp}\0{e.label}\n".encode("utf-8", "backslashreplace"))
    return "sha256:" + hasher.hexdigest()
