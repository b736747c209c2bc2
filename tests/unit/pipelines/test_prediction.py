"""Parts of `conveyor predict`: batches that do not grow, and answers in three formats."""

import csv
import io
import json
import os
from pathlib import Path

import pytest

from components.common.errors import InputError
from components.data.strict import BadImageError
from components.ingest.sources.base import ChangedError, Entry, UnreadableError
from pipelines.prediction import inputs
from pipelines.prediction.inputs import Place, find_images, read_batches
from pipelines.prediction.outputs import FORMATS, Answer

ANSWERS = [
    Answer("a,b/1.png", (("cat", 0.9), ("dog", 0.1))),
    Answer("x.png", error=BadImageError("truncated", "cut off")),
    Answer("a much longer name.png", (("dog", 1.0), ("cat", 0.0))),
]


def printed(fmt: str, top: int = 2) -> str:
    printer = FORMATS[fmt](top)
    text = printer.begin()
    for answer in ANSWERS:
        text += printer.some([answer])
    return text + printer.end()


def test_json_is_one_array_with_a_line_for_each() -> None:
    text = printed("json")
    assert len(text.splitlines()) == 5
    rows = json.loads(text)
    assert rows[0]["label"] == "cat"
    assert rows[0]["top"][1] == {"label": "dog", "probability": 0.1}
    assert rows[1] == {"path": "x.png", "error": {"reason": "truncated", "detail": "cut off"}}
    empty = FORMATS["json"](1)
    assert json.loads(empty.begin() + empty.some([]) + empty.end()) == []


def test_csv_quotes_what_it_must() -> None:
    rows = list(csv.reader(io.StringIO(printed("csv"))))
    assert rows[0] == ["path", "label", "probability", "label_2", "probability_2"]
    assert rows[1] == ["a,b/1.png", "cat", "0.900000", "dog", "0.100000"]
    assert len(rows) == 3


def test_table_has_one_header_and_leaves_bad_images_to_stderr() -> None:
    lines = printed("table").splitlines()
    assert lines[0].split() == ["image", "label", "probability", "label", "probability"]
    assert len(lines) == 3
    assert lines[1].endswith("90.00 %  dog        10.00 %")


def counting_place(num: int, size: int, reads: list[str]) -> Place:
    def read(entry: Entry, limit: int) -> bytes:
        reads.append(entry.name)
        return b"x"

    return Place([Entry(f"{i:03d}", size, "", "") for i in range(num)], read, "p/")


def test_only_one_batch_is_read_ahead() -> None:
    reads: list[str] = []
    batches = read_batches([counting_place(100, 1, reads)], 10)
    first = next(batches)
    assert [image.path for image in first] == [f"p/{i:03d}" for i in range(10)]
    assert len(reads) <= 20
    assert sum(len(batch) for batch in batches) == 90
    assert reads == sorted(reads)


def test_batches_run_across_places_and_are_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    places = [counting_place(1, 1, []) for _ in range(7)]
    assert [len(batch) for batch in read_batches(places, 5)] == [5, 2]
    monkeypatch.setattr(inputs, "MAX_BATCH_BYTES", 100)
    assert [len(batch) for batch in read_batches([counting_place(5, 40, [])], 64)] == [2, 2, 1]
    assert [len(batch) for batch in read_batches([counting_place(2, 400, [])], 64)] == [1, 1]


@pytest.mark.parametrize(
    ("error", "reason"), [(ChangedError("gone"), "changed"), (UnreadableError("no"), "unreadable")]
)
def test_a_file_that_cannot_be_read_is_an_answer(error: Exception, reason: str) -> None:
    def read(entry: Entry, limit: int) -> bytes:
        raise error

    place = Place([Entry("a.png", 1, "", "a.png")], read)
    (batch,) = read_batches([place], 8)
    assert batch[0].error is not None
    assert batch[0].error.reason == reason


def test_a_file_that_is_far_too_large_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "huge.png"
    with path.open("wb") as file:
        file.truncate(inputs.MAX_FILE_BYTES + 1)
    (batch,) = read_batches(find_images([str(path)], None, tmp_path), 8)
    assert batch[0].error is not None
    assert batch[0].error.reason == "too_large"


def test_names_that_are_not_utf8_are_printable(tmp_path: Path) -> None:
    path = tmp_path / "b\udce4r\n.png"
    path.write_bytes(b"x")
    for argument in (str(path), str(tmp_path)):
        (batch,) = read_batches(find_images([argument], None, tmp_path), 8)
        assert batch[0].path == f"{tmp_path}/b\\xe4r\\x0a.png"
        assert batch[0].data == b"x"


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        find_images([str(tmp_path / "a\nb")], None, tmp_path)
    os.mkfifo(tmp_path / ".pipe")
    with pytest.raises(InputError, match="neither a file nor a folder"):
        find_images([str(tmp_path / ".pipe")], None, tmp_path)
    with pytest.raises(InputError, match="no image here"):
        find_images([str(tmp_path)], None, tmp_path)
