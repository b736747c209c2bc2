"""Classes from folders, columns and patterns."""

import pytest

from components.common.errors import InputError
from components.ingest.config import IngestConfig
from components.ingest.labels import label_entries
from components.ingest.sources.base import Entry


def entries(*names: str) -> list[Entry]:
    return [Entry(name, 1, "", name) for name in names]


def test_the_first_folder_is_the_class() -> None:
    found = label_entries(entries("a/1.png", "b/deep/down/2.png", "loose.png"), IngestConfig())
    assert found == ["a", "b", None]


def test_a_pattern_finds_the_class() -> None:
    config = IngestConfig(pattern=r"^[^/]+/(?P<label>\w+)_\d+")
    assert label_entries(entries("x/cat_1.png", "x/dog_2.png", "x/1.png"), config) == ["cat", "dog", None]


def test_a_column_wins_over_folders() -> None:
    given = [Entry("a/1.png", 1, "", "", "cat"), Entry("a/2.png", 1, "", "", "dog")]
    assert label_entries(given, IngestConfig()) == ["cat", "dog"]
    with pytest.raises(InputError, match="only one class"):
        label_entries(given, IngestConfig(label_from="folder"))


@pytest.mark.parametrize(
    ("names", "what"),
    [
        (["a/1.png", "a/2.png"], "only one class"),
        (["1.png", "2.png"], "has a class"),
        (["Cat/1.png", "cat/2.png"], "only in case"),
        (["caf\u00e9/1.png", "cafe\u0301/2.png"], "only in case"),
        (["train/cat/1.png", "test/cat/2.png"], "splits, not classes"),
    ],
)
def test_what_makes_no_classes_is_refused(names: list[str], what: str) -> None:
    with pytest.raises(InputError) as caught:
        label_entries(entries(*names), IngestConfig())
    assert what in caught.value.what
    assert caught.value.todo


def test_a_class_may_be_called_train() -> None:
    assert label_entries(entries("train/1.png", "car/2.png"), IngestConfig()) == ["train", "car"]
