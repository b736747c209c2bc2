"""`conveyor example digits DIR`: a small real data set, with a few bad images planted in it."""

import csv
import gzip
import struct
import sys
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import click

from components.common.errors import InputError, StepError
from components.common.store import Store, open_store
from pipelines.commands.options import Session
from pipelines.config import read_config

# One file says that the folder is ours; hidden, so that ingest does not look at it.
MARK = ".conveyor-example"
DATA = "digits.csv.gz"
UPLOADS = 8
MARK_TEXT = "Written by 'conveyor example digits'. Delete the folder freely.\n"


@click.group(name="example")
def command() -> None:
    """Write example data."""


@command.command()
@click.argument("place", metavar="DIR|S3URL")
@click.option("-f", "--file", type=click.Path(path_type=Path), help="A config file, to reach its S3 server.")
@click.pass_obj
def digits(session: Session, place: str, file: Path | None) -> None:
    """1,797 handwritten digits (8x8 PNG) in class folders, and five bad files to show what quarantine is."""
    if place.startswith("s3://"):
        # From the bucket's root: below the prefix lies nothing but the example, not even a note of the store's.
        bucket, _, prefix = place.removeprefix("s3://").partition("/")
        store = open_store(f"s3://{bucket}", read_config(session.graph, file).store)
        num = upload_digits(store, prefix.strip("/"))
    else:
        num = write_digits(Path(place))
    click.echo(f"{num} files in {place}", err=True)
    click.echo(place)


def upload_digits(bucket: Store, prefix: str) -> int:
    """Write the example below a bucket's prefix; what is there already stays as it is. Returns the number of files."""
    below = f"{prefix}/" if prefix else ""
    there = {info.key for info in bucket.list(below)}
    files = {below + name: data for name, data in digit_files()}
    missing = [item for item in files.items() if item[0] not in there]
    with ThreadPoolExecutor(UPLOADS) as pool:
        list(pool.map(lambda item: bucket.put(*item), missing))
    return len(files)


def write_digits(folder: Path) -> int:
    """Write the example into `folder`, byte for byte the same everywhere; returns the number of files.

    The images are scikit-learn's copy of the UCI optical recognition test set (CC BY 4.0). A folder that this wrote
    before is completed. Raises `InputError` for one that holds anything else.
    """
    mark = folder / MARK
    if folder.exists() and not folder.is_dir():
        raise InputError("this is not a folder", where=str(folder), todo="give the name of a new folder")
    if folder.exists() and not mark.exists() and any(folder.iterdir()):
        raise InputError(
            "the folder is not empty, and the example would mix with what is there",
            where=str(folder),
            expected="a new or an empty folder",
            todo="give another folder",
        )
    folder.mkdir(parents=True, exist_ok=True)
    mark.write_text(MARK_TEXT)
    num = 0
    for name, data in digit_files():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        # Untouched where it is whole already: a changed mtime would make the next run read it again.
        if not path.is_file() or path.read_bytes() != data:
            part = path.with_name(f".{path.name}.part")
            part.write_bytes(data)
            part.replace(path)
        num += 1
    return num


def digit_files() -> Iterator[tuple[str, bytes]]:
    """(relative name, bytes) of the 1,797 digits and of five planted bad files."""
    good: dict[str, bytes] = {}
    for i, row in enumerate(_digits()):
        *pixels, label = (int(float(value)) for value in row)
        grey = [bytes(round(value * 255 / 16) for value in pixels[at : at + 8]) for at in range(0, 64, 8)]
        good[f"{label}/{i:04d}.png"] = grey_png(grey)
    yield from good.items()
    whole = good["5/0005.png"]
    yield "5/planted-truncated.png", whole[: len(whole) // 2]
    yield "2/planted-text.png", b"This is a text file that somebody called an image.\n"
    yield "0/planted-copy.png", good["0/0000.png"]
    yield "7/planted-wrong-class.png", good["1/0001.png"]
    yield "3/planted-one-pixel.png", grey_png([b"\x80"])


def _digits() -> list[list[str]]:
    """A line for each image: its 64 pixels, 0 to 16, and its class.

    Only scikit-learn's data file is read: images have that, and not the 200 MB around it.
    """
    found = find_spec("sklearn")
    package = Path(found.origin).parent if found and found.origin else Path()
    for path in (package / "datasets" / "data" / DATA, Path(sys.prefix) / "share" / "conveyor" / DATA):
        if path.is_file():
            with gzip.open(path, "rt", newline="") as file:
                return list(csv.reader(file))
    raise StepError(
        "the digits are not on this machine",
        todo="pip install scikit-learn, whose copy of them this writes (make setup installs everything)",
    )


def grey_png(rows: list[bytes]) -> bytes:
    """An 8-bit grey PNG. Stored, not deflated: zlib builds differ in what they make of the same bytes."""
    header = struct.pack(">IIBBBBB", len(rows[0]), len(rows), 8, 0, 0, 0, 0)
    raw = b"".join(b"\0" + row for row in rows)
    stored = b"\x78\x01\x01" + struct.pack("<HH", len(raw), len(raw) ^ 0xFFFF) + raw
    packed = stored + struct.pack(">I", zlib.adler32(raw))
    chunks = ((b"IHDR", header), (b"IDAT", packed), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
