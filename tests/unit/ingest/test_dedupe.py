"""Exact duplicates are kept once; with two labels, not at all."""

from components.ingest.dedupe import Fate, find_duplicates

A, D, C = Fate.ACCEPTED, Fate.DUPLICATE, Fate.CONFLICT


def test_first_name_is_kept() -> None:
    assert find_duplicates(["p", "q", "p", "p"], ["1", "2", "1", "3"], ["x"] * 4, set()) == [A, A, D, D]


def test_what_the_parent_accepted_is_kept() -> None:
    assert find_duplicates(["p", "p", "p"], ["1", "2", "3"], ["x"] * 3, {"2"}) == [D, A, D]


def test_two_labels_leave_none() -> None:
    fates = find_duplicates(["p", "p", "q", "p"], ["1", "1", "2", "3"], ["x", "y", "x", "x"], {"1"})
    assert fates == [C, C, A, C]


def test_rows_without_pixels_are_no_duplicates() -> None:
    assert find_duplicates([None, None], [None, None], ["x", "y"], set()) == [A, A]
