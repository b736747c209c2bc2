"""The document that a retraining is compared with."""

from pathlib import Path

import pytest

from components.common.canonical import digest_bytes
from components.common.errors import StoreError
from components.common.store import Store, open_store
from pipelines.attempts import (
    Attempt,
    Basis,
    Retraining,
    all_retrainings,
    read_retraining,
    swap_retraining,
)

ONE, OTHER = digest_bytes(b"one"), digest_bytes(b"other")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path))


def basis(*, snapshot: str = ONE, train: str = ONE, code: str = ONE, torch: str | None = "2.13.0") -> Basis:
    return Basis(
        snapshot=snapshot,
        settings={"train": train, "promote": ONE},
        code={"train": code},
        libraries={"torch": torch},
    )


def attempt(run: str) -> Attempt:
    return Attempt(
        state="running", basis=basis(), run=run, start=None, champion=None, began="2026-01-01T00:00:00+00:00"
    )


@pytest.mark.parametrize(
    ("new", "words"),
    [
        (basis(), []),
        (basis(snapshot=OTHER), ["the data"]),
        (basis(train=OTHER), ["settings of train"]),
        (basis(code=OTHER, torch=None), ["code of train", "build of torch"]),
    ],
)
def test_what_has_changed_is_told_in_words(new: Basis, words: list[str]) -> None:
    assert new.changes_since(basis()) == words
    assert (new == basis()) is (not words)


def test_one_of_two_that_begin_at_once_wins(store: Store) -> None:
    document, tag = read_retraining(store, "digits")
    assert document.attempt is None
    assert swap_retraining(store, "digits", Retraining(attempt=attempt("first")), tag)
    assert not swap_retraining(store, "digits", Retraining(attempt=attempt("second")), tag)
    ((name, found),) = all_retrainings(store)
    assert name == "retraining/digits.json"
    assert found.attempt is not None
    assert (found.attempt.run, found.attempt.has_ended) == ("first", False)


@pytest.mark.parametrize("data", [b"{", b'{"kind":"retraining","version":2}', b'{"surprise":1}'])
def test_a_damaged_document_says_what_to_do(store: Store, data: bytes) -> None:
    store.put("retraining/digits.json", data)
    with pytest.raises(StoreError) as caught:
        read_retraining(store, "digits")
    assert "retraining/digits.json" in str(caught.value)
    assert caught.value.todo is not None
