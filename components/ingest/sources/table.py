"""A CSV list of image paths and classes."""

import csv
import io
import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from components.common.errors import InputError
from components.ingest.sources.base import Entry, Listing, fingerprint_entries, printable
from components.ingest.sources.folder import read_file, unreadable

DELIMITERS = (",", ";", "\t")


class TableSource:
    """The images that a list names, relative to the folder in which the list lies."""

    parallel_reads = 1

    def __init__(self, path: str, path_column: str, label_column: str) -> None:
        self._path, self._columns = path, (path_column, label_column)
        self._listing: Listing | None = None

    def __reduce__(self) -> tuple[object, ...]:
        return TableSource, (self._path, *self._columns)  # workers need no listing

    def fingerprint(self) -> str:
        self._listing = self._list()
        return fingerprint_entries(self._listing.entries)

    def list(self, scratch: Path) -> Listing:
        return self._listing or self._list()

    def read(self, entry: Entry, limit: int) -> bytes:
        return read_file(entry, limit)

    def _list(self) -> Listing:
        folder = Path(self._path).parent
        found: dict[str, tuple[int, Entry]] = {}
        repeated = 0
        for line, path, label in self._rows():
            name = self._relative(path, line)
            known = found.get(name)
            if known is not None:
                if known[1].label != label:
                    raise InputError(
                        "the list gives one image two classes",
                        where=f"{self._path}, lines {known[0]} and {line}",
                        found=f"{name} is {known[1].label} and {label}",
                        todo="keep the right one",
                    )
                repeated += 1
                continue
            target = folder / name
            try:
                info = target.stat()
            except OSError as error:
                raise unreadable(f"{self._path}, line {line}: {name}", error) from None
            if not stat.S_ISREG(info.st_mode):
                raise InputError(
                    "the list names something that is not a file",
                    where=f"{self._path}, line {line}",
                    found=name,
                    todo="correct the list",
                )
            entry = Entry(printable(name), info.st_size, str(info.st_mtime_ns), str(target), label)
            found[name] = (line, entry)
        entries = sorted((entry for _, entry in found.values()), key=lambda entry: entry.name)
        return Listing(entries, {"listed twice": repeated} if repeated else {})

    def _relative(self, path: str, line: int) -> str:
        pure = PurePosixPath(path)
        if pure.is_absolute() or ".." in pure.parts:
            raise InputError(
                "the list names an image outside its own folder",
                where=f"{self._path}, line {line}",
                expected="paths relative to the list, without '..'",
                found=path,
                todo="put the list into a folder above all images",
            )
        return str(pure)

    def _rows(self) -> Iterator[tuple[int, str, str | None]]:
        """(line, path, class) of each row."""
        path_column, label_column = self._columns
        try:
            text = Path(self._path).read_text(encoding="utf-8-sig")
        except UnicodeDecodeError as error:
            raise InputError(
                "the list is not UTF-8", where=self._path, found=str(error), todo="save it as UTF-8"
            ) from None
        except OSError as error:
            raise unreadable(self._path, error) from None
        header = text.partition("\n")[0]
        delimiter = max(DELIMITERS, key=header.count)
        reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        missing = [name for name in self._columns if name not in (reader.fieldnames or ())]
        if missing:
            raise InputError(
                f"the list has no column {' and no column '.join(missing)}",
                where=self._path,
                expected=f"a first line with {path_column}{delimiter}{label_column}",
                found=", ".join(reader.fieldnames or ()) or "an empty file",
                todo="set ingest.path_column and ingest.label_column to the names of its columns",
            )
        try:
            for row in reader:
                path, label = row[path_column], row[label_column]
                if path and path.strip():
                    yield reader.line_num, path.strip(), (label or "").strip() or None
        except csv.Error as error:
            raise InputError(
                "the list is not valid CSV", where=f"{self._path}, line {reader.line_num}", found=str(error)
            ) from None
