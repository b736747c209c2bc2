"""Runs: names, pointers, and finding what another step left."""

from pathlib import Path

import pytest

from components.common.announce import announce
from components.common.canonical import digest_bytes
from components.common.errors import InputError, StoreError
from components.common.records import Record, publish_record
from components.common.refs import EvaluationRef
from components.common.runs import JOB, Pointer, check_run_id, list_runs, output_of, point, read_pointer
from components.common.store import Store, open_store

DIGEST = digest_bytes(b"x")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "store"))


@pytest.mark.parametrize("name", ["a", "20261123-150612-3fa9", "nightly.7", "a" * 63])
def test_usable_names(name: str) -> None:
    assert check_run_id(name) == name


@pytest.mark.parametrize("name", ["", "A", "a_b", "-a", "a-", ".", "..", "a/b", "a b", "é", "a\n", "a" * 64])
def test_unusable_names(name: str) -> None:
    with pytest.raises(InputError, match="run name"):
        check_run_id(name)


def test_a_pointer_is_read_back_and_the_newest_wins(store: Store) -> None:
    assert read_pointer(store, "r", "train") is None
    point(store, "r", "train", "1" * 64)
    point(store, "r", "train", "2" * 64)
    assert read_pointer(store, "r", "train") == Pointer("train", "2" * 64)


def test_a_job_that_another_has_followed_points_no_more(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its pod was left alive (a node that was cut off, a Job deleted with --cascade=orphan), and ends last."""
    for job, key in (("t1", "1"), ("t2", "2")):
        announce(store, "r", "train", job)
        monkeypatch.setenv(JOB, job)
        point(store, "r", "train", key * 64)
    monkeypatch.setenv(JOB, "t1")
    point(store, "r", "train", "3" * 64)
    assert read_pointer(store, "r", "train") == Pointer("train", "2" * 64, "t2")
    monkeypatch.delenv(JOB)
    point(store, "r", "train", "4" * 64)
    assert read_pointer(store, "r", "train") == Pointer("train", "4" * 64)


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"version":2,"step":"a","key":"b"}', b"\xff"])
def test_a_damaged_pointer_is_a_store_error(store: Store, data: bytes) -> None:
    store.put("runs/r/train.json", data)
    with pytest.raises(StoreError, match="pointer is damaged"):
        read_pointer(store, "r", "train")


def test_the_output_of_a_step_is_found_through_the_run(store: Store) -> None:
    output = EvaluationRef(tree=DIGEST, model=DIGEST, split="test", num_samples=3, metrics={})
    assert output_of(store, "r", "evaluate") is None
    point(store, "r", "evaluate", "1" * 64)
    assert output_of(store, "r", "evaluate") is None
    publish_record(
        store,
        Record(
            step="evaluate",
            key="1" * 64,
            code=DIGEST,
            config={},
            inputs={},
            depends_on={},
            output=output.to_value(),
        ),
    )
    assert output_of(store, "r", "evaluate") == output


def test_runs_are_listed_once_and_sorted(store: Store) -> None:
    for run, step in (("b", "ingest"), ("a", "ingest"), ("a", "train")):
        point(store, run, step, "1" * 64)
    assert list_runs(store) == ["a", "b"]
