"""Folders, lists and archives: what is found, what is left out and why."""

import io
import os
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from components.common.errors import InputError
from components.ingest.config import ArchiveConfig, IngestConfig
from components.ingest.sources import open_source
from components.ingest.sources.archive import ArchiveSource
from components.ingest.sources.base import ChangedError, DamagedError, Listing, Source, UnreadableError
from components.ingest.sources.folder import FolderSource
from components.ingest.sources.table import TableSource

LIMITS = ArchiveConfig(max_members=20, max_bytes=10_000_000, max_ratio=100)


def names(listing: Listing) -> list[str]:
    return [entry.name for entry in listing.entries]


def fill(folder: Path, *files: str) -> Path:
    for name in files:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return folder


def test_folder_leaves_out_what_is_no_image(tmp_path: Path) -> None:
    fill(
        tmp_path,
        "b/2.png",
        "a/1.JPG",
        "a/.hidden.png",
        "a/.DS_Store",
        "a/Thumbs.db",
        "notes.txt",
        "a/x/3.webp",
    )
    fill(tmp_path, "__MACOSX/a/1.png", "a/README", "a/old.gif")
    os.mkfifo(tmp_path / "a" / "pipe.png")
    listing = FolderSource(str(tmp_path)).list(tmp_path)
    assert names(listing) == ["a/1.JPG", "a/README", "a/old.gif", "a/x/3.webp", "b/2.png"]
    assert listing.ignored == {
        "hidden": 3,
        "not a regular file": 1,
        "not an image: .db": 1,
        "not an image: .txt": 1,
    }


def test_names_that_are_not_utf8_become_printable(tmp_path: Path) -> None:
    folder = os.fsencode(fill(tmp_path, "a/1.png")) + b"/caf\xe9"
    os.mkdir(folder)  # noqa: PTH102 pathlib takes no bytes
    for name in (b"/x\xff.png", b"/new\nline.png"):
        Path(os.fsdecode(folder + name)).write_bytes(b"data")
    source = FolderSource(str(tmp_path))
    listing = source.list(tmp_path)
    assert names(listing) == ["a/1.png", "caf\\xe9/new\\x0aline.png", "caf\\xe9/x\\xff.png"]
    assert source.read(listing.entries[2], 100) == b"data"
    assert source.fingerprint() == FolderSource(str(tmp_path)).fingerprint()


def test_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    elsewhere = fill(tmp_path / "elsewhere", "2.png")
    source = fill(tmp_path / "source", "a/1.png")
    (source / "a" / "loop").symlink_to(source)
    (source / "b").symlink_to(elsewhere)
    listing = FolderSource(str(source)).list(tmp_path)
    assert names(listing) == ["a/1.png", "b/2.png"]
    assert listing.ignored == {"link to a folder above it": 1}
    assert "a/loop" in listing.notes[0]


def test_a_broken_link_to_an_image_is_an_error(tmp_path: Path) -> None:
    fill(tmp_path, "a/1.png")
    (tmp_path / "a" / "notes.txt").symlink_to("nowhere")
    FolderSource(str(tmp_path)).list(tmp_path)
    (tmp_path / "a" / "gone.png").symlink_to("nowhere")
    with pytest.raises(InputError) as caught:
        FolderSource(str(tmp_path)).list(tmp_path)
    assert "gone.png" in (caught.value.where or "")


def test_a_file_that_changed_since_is_noticed(tmp_path: Path) -> None:
    fill(tmp_path, "a/1.png", "a/2.png", "a/3.png", "a/4.png")
    source = FolderSource(str(tmp_path))
    one, two, three, four = source.list(tmp_path).entries
    (tmp_path / "a/1.png").write_bytes(b"longer than before")
    (tmp_path / "a/2.png").unlink()
    os.utime(tmp_path / "a/3.png", ns=(1, 1))
    for entry in (one, two, three):
        with pytest.raises(ChangedError):
            source.read(entry, 1000)
    assert source.read(four, 1000) == b"a/4.png"


def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    fill(tmp_path, "a/1.png")
    source = FolderSource(str(tmp_path))
    (entry,) = source.list(tmp_path).entries
    (tmp_path / "a/1.png").unlink()
    (tmp_path / "a/1.png").mkdir()
    with pytest.raises((UnreadableError, ChangedError)):
        source.read(entry, 1000)


def table(folder: Path, text: str, encoding: str = "utf-8") -> Source:
    (folder / "list.csv").write_text(text, encoding=encoding)
    return open_source(IngestConfig(source=str(folder / "list.csv")))


def test_list(tmp_path: Path) -> None:
    fill(tmp_path, "x/1.png", "x/2.png")
    source = table(tmp_path, "\ufefflabel;path\ncat;x/2.png\n dog ; x/1.png\ncat;./x/2.png\n\n")
    assert isinstance(source, TableSource)
    listing = source.list(tmp_path)
    assert [(e.name, e.label) for e in listing.entries] == [("x/1.png", "dog"), ("x/2.png", "cat")]
    assert listing.ignored == {"listed twice": 1}
    before = source.fingerprint()
    assert table(tmp_path, "path,label\nx/1.png,cat\nx/2.png,cat\n").fingerprint() != before


@pytest.mark.parametrize(
    ("text", "what", "where"),
    [
        ("file,class\nx/1.png,a\n", "no column path and no column label", ""),
        ("path,label\nx/1.png,a\nx/1.png,b\n", "two classes", "lines 2 and 3"),
        ("path,label\n../secret.png,a\n", "outside its own folder", "line 2"),
        ("path,label\n/etc/secret.png,a\n", "outside its own folder", "line 2"),
        ("path,label\nx/gone.png,a\n", "cannot be read", "line 2"),
        ("path,label\nx,a\n", "not a file", "line 2"),
        ('path,label\n"x/1.png,a\n', "not valid CSV", ""),
        ("", "no column", ""),
    ],
)
def test_bad_lists(tmp_path: Path, text: str, what: str, where: str) -> None:
    fill(tmp_path, "x/1.png")
    with pytest.raises(InputError) as caught:
        table(tmp_path, text).list(tmp_path)
    assert what in caught.value.what
    assert where in (caught.value.where or "")


def test_a_list_that_is_not_utf8(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not UTF-8"):
        table(tmp_path, "path,label\nä.png,a\n", "latin-1").list(tmp_path)


def pack(tmp_path: Path, kind: str, files: dict[str, bytes]) -> ArchiveSource:
    path = tmp_path / f"archive.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in files.items():
                archive.writestr(name, data)
    else:
        mode: Any = "w" if kind == "tar" else f"w:{kind}"
        with tarfile.open(path, mode) as tar:
            for name, data in files.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    source = open_source(IngestConfig(source=str(path), archive=LIMITS))
    assert isinstance(source, ArchiveSource)
    return source


KINDS = pytest.mark.parametrize("kind", ["tar", "gz", "bz2", "xz", "zip"])


@KINDS
def test_archives(tmp_path: Path, kind: str) -> None:
    files = {f"all/{c}/{i}.png": f"{c}{i}".encode() * 100 for c in "ab" for i in range(3)}
    source = pack(tmp_path, kind, {**files, "all/a/notes.txt": b"text", "all/.hidden.png": b""})
    listing = source.list(tmp_path)
    assert names(listing) == [f"{c}/{i}.png" for c in "ab" for i in range(3)], "the one folder is no class"
    assert listing.ignored == {"not an image: .txt": 1, "hidden": 1}
    for entry in reversed(listing.entries):
        assert source.read(entry, 10_000) == files[f"all/{entry.name}"]


@KINDS
@pytest.mark.parametrize("name", ["../x.png", "/x.png", "a/../../x.png"])
def test_archives_that_point_outside_are_refused(tmp_path: Path, kind: str, name: str) -> None:
    with pytest.raises(InputError, match="outside itself"):
        pack(tmp_path, kind, {"a/1.png": b"x", name: b"y"}).list(tmp_path)


@KINDS
def test_archives_with_too_many_members_are_refused(tmp_path: Path, kind: str) -> None:
    with pytest.raises(InputError, match="too many members"):
        pack(tmp_path, kind, {f"a/{i}.png": b"x" for i in range(21)}).list(tmp_path)


@KINDS
def test_bombs_are_refused(tmp_path: Path, kind: str) -> None:
    with pytest.raises(InputError, match=r"suspiciously much|too large"):
        pack(tmp_path, kind, {f"a/{i}.png": bytes(6_000_000) for i in range(2)}).list(tmp_path)


def test_links_and_devices_in_archives_are_not_followed(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w") as tar:
        for name, kind in (
            ("a/1.png", tarfile.SYMTYPE),
            ("a/2.png", tarfile.LNKTYPE),
            ("a/3.png", tarfile.CHRTYPE),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            tar.addfile(info)
    listing = ArchiveSource(str(path), LIMITS).list(tmp_path)
    assert (listing.entries, listing.ignored) == ([], {"link or device": 3})


def test_two_members_of_one_name(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("a/1.png", b"1")
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("a/1.png", b"2")
    with pytest.raises(InputError, match="two members of one name"):
        ArchiveSource(str(tmp_path / "x.zip"), LIMITS).list(tmp_path)


def test_a_damaged_member_is_only_that(tmp_path: Path) -> None:
    source = pack(tmp_path, "zip", {"a/1.png": bytes(range(256)), "b/2.png": b"fine" * 50})
    listing = source.list(tmp_path)
    path = tmp_path / "archive.zip"
    data = bytearray(path.read_bytes())
    stamp = path.stat()
    data[60] ^= 255
    path.write_bytes(data)
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    with pytest.raises(DamagedError):
        source.read(listing.entries[0], 10_000)
    assert source.read(listing.entries[1], 10_000) == b"fine" * 50


@pytest.mark.parametrize("kind", ["tar", "gz"])
def test_an_archive_that_was_cut_off(tmp_path: Path, kind: str) -> None:
    source = pack(tmp_path, kind, {f"a/{i}.png": os.urandom(5000) for i in range(5)})
    path = tmp_path / f"archive.{kind}"
    path.write_bytes(path.read_bytes()[:12_000])
    with pytest.raises(InputError, match="cannot be read to its end"):
        source.list(tmp_path)


def test_an_archive_that_changes_is_noticed(tmp_path: Path) -> None:
    source = pack(tmp_path, "tar", {"a/1.png": b"x" * 600})
    (entry,) = source.list(tmp_path).entries
    with (tmp_path / "archive.tar").open("ab") as file:
        file.write(bytes(512))
    with pytest.raises(ChangedError):
        source.read(entry, 10_000)


@pytest.mark.parametrize(
    ("source", "what"),
    [
        (None, "no source"),
        (" ", "no source"),
        ("/no/such/place", "no such source"),
        ("ftp://host/x", "not known"),
        ("s3://b", "not an S3 URL"),
    ],
)
def test_sources_that_are_none(source: str | None, what: str) -> None:
    with pytest.raises(InputError) as caught:
        open_source(IngestConfig(source=source))
    assert what in caught.value.what


def test_a_file_of_another_kind(tmp_path: Path) -> None:
    fill(tmp_path, "book.txt")
    with pytest.raises(InputError, match="of another kind"):
        open_source(IngestConfig(source=str(tmp_path / "book.txt")))
