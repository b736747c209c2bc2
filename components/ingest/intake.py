"""From entries to rows: what the parent knows is taken over, the rest is read, checked and packed as it streams by."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from components.common.errors import InputError
from components.common.pool import Crashed, CrashPool
from components.common.progress import Reporter
from components.ingest.check import Batch, Checked, Limits, blank, check_batch
from components.ingest.contents import Contents
from components.ingest.manifest import DERIVED_REASONS, Row
from components.ingest.packs import PackWriter
from components.ingest.sources import Source
from components.ingest.sources.base import ChangedError, DamagedError, Entry, UnreadableError, suffix_of

MAX_BATCH_IMAGES = 256
MAX_BATCH_BYTES = 8 * 2**20
NOT_KNOWN = "no image, and no name of one"

Check: TypeAlias = Callable[[Batch], Checked]


@dataclass
class Known:
    """What the parent snapshot saves us from reading again."""

    rows: Mapping[str, Row] = field(default_factory=dict)
    stamps: Mapping[str, tuple[int, str]] = field(default_factory=dict)
    places: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    """Digest → (pack, offset), of packs that are still there."""

    def row(self, entry: Entry) -> Row | None:
        """The parent's row of an entry that has not been touched since."""
        if self.stamps.get(entry.name) != (entry.size_bytes, entry.stamp):
            return None
        row = self.rows.get(entry.name)
        # What killed a worker may have been innocent: it gets another chance.
        if (
            row is None
            or row.reason in {"changed", "decoder_crash"}
            or (row.content < 0 and row.reason in DERIVED_REASONS)
        ):
            return None
        return row


@dataclass
class Intake:
    """Every entry's row, in the order of names, and what the good ones contain."""

    rows: list[Row]
    contents: Contents
    ignored: int = 0
    """Files without a suffix that turned out to be no images."""
    num_read: int = 0


def take_in(
    source: Source,
    entries: Sequence[Entry],
    classes: Sequence[str | None],
    contents: Contents,
    known: Known,
    packs: PackWriter,
    reporter: Reporter,
    *,
    limits: Limits,
    num_workers: int,
    timeout_s: float,
    check: Check = check_batch,
) -> Intake:
    """Check what is new, in parallel, and pack it in the order of names, whatever finishes first.

    Images go through in batches and never lie in memory together. Raises `InputError` for a file that may not be read.
    """
    rows: list[Row | None] = []
    todo: list[int] = []
    for i, (entry, name) in enumerate(zip(entries, classes, strict=True)):
        row = Row(entry.name, name, entry.size_bytes)
        before = known.row(entry)
        if name is None:
            row.quarantine("no_class")
        elif before is None:
            todo.append(i)
        else:
            row.digest, row.content = before.digest, before.content
            if before.content < 0:
                row.quarantine(before.reason or "corrupt", before.detail)
        rows.append(row)
    intake = Intake([], contents, num_read=len(todo))
    packed = {contents.pixels[c] for c in range(len(contents)) if contents.pack[c] is not None}
    batches = _batches(source, [entries[i] for i in todo], limits)
    position = iter(todo)
    with reporter.task("check images", total=len(todo), unit="images") as task:
        for batch, checked in _check_all(batches, check, min(num_workers, len(todo)), timeout_s):
            for k, entry in enumerate(batch.entries):
                i = next(position)
                taken = rows[i]
                assert taken is not None
                if not _settle(taken, checked, k, intake.contents, known, packed, packs):
                    rows[i] = None
                    intake.ignored += 1
                elif taken.digest is None and taken.reason == "decoder_crash":
                    taken.digest = _digest(source, entry, limits)
            task.advance(len(batch.entries))
    intake.rows = [row for row in rows if row is not None]
    return intake


def _settle(
    row: Row, checked: Checked, k: int, contents: Contents, known: Known, packed: set[str], packs: PackWriter
) -> bool:
    """Write what was found into the row, and a good image into a pack; False for what is no image at all."""
    reason = checked.reason[k]
    row.digest = checked.digest[k]
    if reason is not None:
        if reason == "not_an_image" and not suffix_of(row.name):
            return False
        row.quarantine(reason, checked.detail[k])
        return True
    row.size_bytes = int(checked.size[k, 2])
    num_before = len(contents)
    row.content = c = contents.add_checked(checked, k)
    if c < num_before or contents.pixels[c] in packed:
        return True
    packed.add(contents.pixels[c])
    place = known.places.get(contents.digest[c])
    if place is not None:
        contents.pack[c], contents.offset[c] = place
    else:
        packs.add(c, contents.digest[c], contents.format[c], checked.data[k])
    return True


def _batches(source: Source, entries: Iterable[Entry], limits: Limits) -> Iterator[Batch]:
    some: list[Entry] = []
    size = 0
    for entry in entries:
        if some and (len(some) == MAX_BATCH_IMAGES or size + entry.size_bytes > MAX_BATCH_BYTES):
            yield Batch(source, some, limits)
            some, size = [], 0
        some.append(entry)
        size += entry.size_bytes
    if some:
        yield Batch(source, some, limits)


def _check_all(
    batches: Iterable[Batch], check: Check, num_workers: int, timeout_s: float
) -> Iterator[tuple[Batch, Checked]]:
    """Checked batches in order; one that killed its worker comes back in parts."""
    with (
        CrashPool(check, num_workers, timeout_s=timeout_s) as pool,
        CrashPool(check, 1, timeout_s=timeout_s) as alone,
    ):
        waiting: list[Batch] = []

        def noted() -> Iterator[Batch]:
            for batch in batches:
                waiting.append(batch)
                yield batch

        for result in pool.map(noted()):
            batch = waiting.pop(0)
            if not isinstance(result, Crashed):
                _refuse_unreadable(result)
                yield batch, result
                continue
            yield from _halve(batch, result, alone)


def _halve(
    batch: Batch, crash: Crashed[Batch], pool: CrashPool[Batch, Checked]
) -> Iterator[tuple[Batch, Checked]]:
    """Find the image that kills its decoder. One that stands alone gets a second try: a worker may also die of a lack
    of memory that others caused."""
    middle = len(batch.entries) // 2
    parts = [batch.entries[:middle], batch.entries[middle:]] if middle else [batch.entries]
    for entries in parts:
        part = replace(batch, entries=entries)
        (result,) = pool.map([part])
        if not isinstance(result, Crashed):
            _refuse_unreadable(result)
            yield part, result
        elif len(entries) > 1 or middle:
            yield from _halve(part, result, pool)
        else:
            dead = blank(1)
            dead.reason[0], dead.detail[0] = "decoder_crash", f"the worker ended with {crash.cause}"
            yield part, dead


def _refuse_unreadable(checked: Checked) -> None:
    if checked.fatal is not None:
        name, _, why = checked.fatal.partition("\0")
        raise InputError(
            "a file of the source cannot be read",
            where=name,
            found=why,
            todo="make it readable (check its owner and permissions), or remove it",
        )


def _digest(source: Source, entry: Entry, limits: Limits) -> str | None:
    """Of an image that killed its worker before that could tell."""
    try:
        return hashlib.sha256(source.read(entry, limits.max_file_bytes)).hexdigest()
    except (ChangedError, DamagedError, UnreadableError):
        return None


def pack_missing(
    source: Source, entries: Mapping[str, Entry], intake: Intake, packs: PackWriter, limits: Limits
) -> None:
    """Pack accepted images whose bytes were passed over while they were a duplicate of another, since gone."""
    placed = packs.placed()
    for c, place in placed.items():
        intake.contents.pack[c], intake.contents.offset[c] = place
    missing = [
        row for row in intake.rows if row.status == "accepted" and intake.contents.pack[row.content] is None
    ]
    for row in missing:
        entry = entries[row.name]
        try:
            data = source.read(entry, limits.max_file_bytes)
        except (ChangedError, DamagedError, UnreadableError) as error:
            raise _changed(row.name, str(error)) from None
        if hashlib.sha256(data).hexdigest() != row.digest:
            raise _changed(row.name, "its content is another now")
        packs.add(row.content, row.digest or "", intake.contents.format[row.content], data)
    for c, place in packs.placed().items():
        intake.contents.pack[c], intake.contents.offset[c] = place


def _changed(name: str, found: str) -> InputError:
    return InputError(
        "a file of the source changed while it was taken in",
        where=name,
        found=found,
        todo="run again when nothing writes there",
    )
