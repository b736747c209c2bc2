"""Exact duplicates: the same bytes, or the same pixels in other bytes."""

from collections import defaultdict
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from enum import IntEnum


class Fate(IntEnum):
    """What becomes of a good image."""

    ACCEPTED = 0
    DUPLICATE = 1
    CONFLICT = 2


def find_duplicates(
    pixels: Sequence[str | None],
    digest: Sequence[str | None],
    label: Sequence[str | None],
    settled: AbstractSet[str],
) -> list[Fate]:
    """The fate of each row, rows being in the order of their names; a row without pixels stays as it is.

    Of equal pixels under one label the first row is accepted, and one whose digest is in `settled` (accepted in the
    parent) before any other. Under two labels none is: nobody can say which label is right.
    """
    same: dict[str, list[int]] = defaultdict(list)
    for row, what in enumerate(pixels):
        if what is not None:
            same[what].append(row)
    fates = [Fate.ACCEPTED] * len(pixels)
    for rows in same.values():
        if len(rows) == 1:
            continue
        if len({label[row] for row in rows}) > 1:
            kept = None
            other = Fate.CONFLICT
        else:
            kept = next((row for row in rows if digest[row] in settled), rows[0])
            other = Fate.DUPLICATE
        for row in rows:
            fates[row] = Fate.ACCEPTED if row == kept else other
    return fates
