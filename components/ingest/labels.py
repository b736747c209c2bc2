"""The class of an image: from its folder, from its source's list, or from a pattern in its name."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Sequence

from components.common.errors import InputError
from components.ingest.config import IngestConfig
from components.ingest.sources.base import Entry, printable

# First folders that are splits, not classes.
SPLIT_NAMES = frozenset({"train", "training", "val", "valid", "validation", "test", "testing", "eval", "dev"})


def label_entries(entries: Sequence[Entry], config: IngestConfig) -> list[str | None]:
    """Class name of each entry, None where it has none. Raises `InputError` where the whole makes no classes."""
    names = [_label_of(entry, config) for entry in entries]
    found = sorted({name for name in names if name is not None})
    _refuse_clashes(found)
    if not found:
        raise InputError(
            "no image of the source has a class",
            where=config.source,
            expected=_expected(config),
            found=f"{len(entries)} images, such as {entries[0].name}" if entries else "no images",
            todo="put the images of each class in a folder of its own, or set ingest.label_from and ingest.pattern",
        )
    if _from_folder(config) and all(e.label is None for e in entries):
        _refuse_splits(found, entries)
    if len(found) == 1:
        raise InputError(
            "there is only one class, and a classifier needs two",
            where=config.source,
            expected=_expected(config),
            found=f"every image is of the class {found[0]}",
            todo=f"if the classes are the folders inside {found[0]}, give that folder as the source",
        )
    return names


def _from_folder(config: IngestConfig) -> bool:
    return config.label_from == "folder" or (config.label_from == "auto" and config.pattern is None)


def _expected(config: IngestConfig) -> str:
    if config.pattern is not None:
        return f"names that match {config.pattern}"
    if config.label_from == "column":
        return f"classes in the column {config.label_column}"
    return "<source>/<class>/<image>, with at least two classes"


def _label_of(entry: Entry, config: IngestConfig) -> str | None:
    if config.pattern is not None:
        match = re.search(config.pattern, entry.name)
        if match is None:
            return None
        label = match.group("label") if "label" in match.re.groupindex else match.group(1)
        return label or None
    if config.label_from == "column" or (config.label_from == "auto" and entry.label is not None):
        return entry.label or None
    first, slash, _ = entry.name.partition("/")
    return first if slash else None


def _refuse_clashes(found: Sequence[str]) -> None:
    """`Cat` and `cat`, or one accent written in two ways, are one class that would be learnt as two."""
    clash = next(iter(clashes(found)), None)
    if clash is not None:
        raise InputError(
            "two class names differ only in case or in how an accent is written",
            found=" and ".join(f"{name!a}" for name in clash),
            expected="one name for each class",
            todo="rename one of them so that both are the same, or clearly different",
        )


def clashes(names: Sequence[str], fold: Callable[[str], str] | None = None) -> list[list[str]]:
    """Names that are equal but for case and Unicode form, in groups of two and more."""
    by_form = defaultdict(list)
    for name in names:
        by_form[(fold or _fold)(name)].append(name)
    return [sorted(group) for group in by_form.values() if len(group) > 1]


def _fold(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _refuse_splits(found: Sequence[str], entries: Sequence[Entry]) -> None:
    if not all(name.lower() in SPLIT_NAMES for name in found):
        return
    if any(entry.name.count("/") >= 2 for entry in entries):
        raise InputError(
            "the first folders are splits, not classes",
            found=", ".join(printable(name) for name in found),
            expected="<source>/<class>/<image>; Conveyor makes the splits itself",
            todo="set ingest.pattern='^[^/]+/(?P<label>[^/]+)/' to take the second folder as the class",
        )
