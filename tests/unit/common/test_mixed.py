"""Inputs of one step that come from two applications of the same Jobs."""

from pathlib import Path

import pytest

from components.common.canonical import digest_bytes
from components.common.errors import InputError
from components.common.mixed import refuse_mixed
from components.common.records import Record, publish_record
from components.common.refs import EvaluationRef
from components.common.runs import JOB, Pointer, point, read_pointer
from components.common.store import Store, open_store

RUN = "nightly"


def output(of: str) -> dict[str, object]:
    digest = digest_bytes(of.encode())
    return EvaluationRef(tree=digest, model=digest, split="test", num_samples=3, metrics={}).to_value()


def finish(store: Store, step: str, job: str, made: str, *, shards: str = "") -> None:
    """The Job `job` of `step` leaves the result called `made`; train had its `shards` from preprocess."""
    key = digest_bytes(f"{step}{made}".encode()).removeprefix("sha256:")
    inputs = {"shards": output(shards)} if shards else {}
    record = Record(
        step=step,
        key=key,
        code=digest_bytes(b""),
        config={},
        inputs=inputs,
        depends_on={},
        output=output(made),
    )
    publish_record(store, record)
    used = {}
    if step == "train":
        before = read_pointer(store, RUN, "preprocess")
        assert before is not None
        assert before.job is not None
        used = {"preprocess": before.job}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(JOB, job)
        point(store, RUN, step, key, used=used)


def evaluate(store: Store) -> None:
    pointers: dict[str, Pointer] = {}
    for step in ("train", "preprocess"):
        pointer = read_pointer(store, RUN, step)
        assert pointer is not None
        pointers[step] = pointer
    refuse_mixed(store, RUN, "evaluate", pointers)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = open_store(str(tmp_path / "store"))
    finish(made, "preprocess", "p1", "old shards")
    finish(made, "train", "t1", "old model", shards="old shards")
    return made


def test_what_belongs_together_is_taken(store: Store) -> None:
    evaluate(store)
    finish(store, "preprocess", "p2", "new shards")
    finish(store, "train", "t2", "new model", shards="new shards")
    evaluate(store)


def test_a_model_of_the_old_shards_is_not_evaluated_on_the_new_ones(store: Store) -> None:
    finish(store, "preprocess", "p2", "new shards")
    with pytest.raises(InputError, match="inputs of evaluate do not belong together") as caught:
        evaluate(store)
    assert "train had started from an earlier one" in str(caught.value)
    assert "newest one of preprocess" in str(caught.value)


def test_shards_that_were_made_again_and_are_the_same_are_no_others(store: Store) -> None:
    finish(store, "preprocess", "p2", "old shards")
    evaluate(store)
