"""Records: published once, keyed by all that the result depends on, strict when read."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.common.canonical import canonical_json, digest_bytes
from components.common.errors import StoreError
from components.common.records import (
    Record,
    parse_record,
    publish_record,
    read_measurements,
    read_record,
    record_name,
    step_key,
    write_measurements,
)
from components.common.refs import EvaluationRef, parse_ref
from components.common.store import Store, open_store

DIGEST = digest_bytes(b"x")

json_leaves = (
    st.none()
    | st.booleans()
    | st.integers(min_value=-(2**63), max_value=2**64)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20).filter(lambda text: text.isprintable())
)
json_values = st.recursive(
    json_leaves,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text("abcdé_", max_size=6), inner, max_size=4)
    ),
)
json_objects = st.dictionaries(st.text("abcdefgh_", min_size=1, max_size=8), json_values, max_size=5)


def evaluation(accuracy: float = 0.5) -> EvaluationRef:
    return EvaluationRef(
        tree=DIGEST, model=DIGEST, split="test", num_samples=3, metrics={"accuracy": accuracy}
    )


def record(
    config: dict[str, Any] | None = None, depends_on: dict[str, Any] | None = None, accuracy: float = 0.5
) -> Record:
    config, depends_on = config or {}, depends_on or {}
    return Record(
        step="evaluate",
        key=step_key("evaluate", DIGEST, config, {}, depends_on),
        code=DIGEST,
        config=config,
        inputs={},
        depends_on=depends_on,
        output=evaluation(accuracy).to_value(),
    )


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "store"))


@given(config=json_objects, depends_on=json_objects)
def test_any_record_survives_the_trip_through_json(
    config: dict[str, Any], depends_on: dict[str, Any]
) -> None:
    written = record(config, depends_on)
    data = canonical_json(written.model_dump(mode="json"))
    read = parse_record(data, where="here")
    assert read == written
    assert canonical_json(read.model_dump(mode="json")) == data


@given(config=json_objects)
def test_a_key_is_a_function_of_the_values_not_of_their_order(config: dict[str, Any]) -> None:
    backwards = dict(reversed(list(config.items())))
    assert step_key("a", DIGEST, config, {}, {}) == step_key("a", DIGEST, backwards, {}, {})
    assert len(step_key("a", DIGEST, config, {}, {})) == 64


@given(one=json_objects, other=json_objects)
def test_different_settings_have_different_keys(one: dict[str, Any], other: dict[str, Any]) -> None:
    same = canonical_json(one) == canonical_json(other)
    assert (step_key("a", DIGEST, one, {}, {}) == step_key("a", DIGEST, other, {}, {})) == same


@given(value=json_objects)
def test_no_value_can_pass_for_another_part_of_the_key(value: dict[str, Any]) -> None:
    keys = {
        step_key("a", DIGEST, value, {}, {}),
        step_key("a", DIGEST, {}, value, {}),
        step_key("a", DIGEST, {}, {}, value),
    }
    assert len(keys) == (3 if value else 1)


@settings(max_examples=200)
@given(data=st.binary(max_size=200) | json_objects.map(canonical_json))
def test_damage_is_always_a_store_error_that_names_the_place(data: bytes) -> None:
    with pytest.raises(StoreError) as caught:
        parse_record(data, where="records/a/b.json")
    assert caught.value.where == "records/a/b.json"


@settings(max_examples=200)
@given(cut=st.integers(min_value=0, max_value=10_000))
def test_a_truncated_record_is_refused(cut: int) -> None:
    data = canonical_json(record().model_dump(mode="json"))
    with pytest.raises(StoreError):
        parse_record(data[: cut % len(data)], where="here")


@given(value=json_values)
def test_what_is_no_reference_is_refused(value: Any) -> None:
    with pytest.raises(StoreError):
        parse_ref(value, where="here")


def test_a_record_of_another_version_says_so(store: Store) -> None:
    value = record().model_dump(mode="json") | {"version": 7}
    with pytest.raises(StoreError) as caught:
        parse_record(canonical_json(value), where="here")
    assert caught.value.found == "version 7"
    assert "upgrade" in (caught.value.todo or "")


def test_a_reference_of_another_version_says_so() -> None:
    with pytest.raises(StoreError, match="unknown version"):
        parse_ref(evaluation().to_value() | {"version": 2}, where="here")
    with pytest.raises(StoreError, match="unknown version"):
        parse_ref(evaluation().to_value() | {"version": [1]}, where="here")


def test_the_first_writer_wins_and_everybody_gets_what_it_wrote(store: Store) -> None:
    first, second = record(accuracy=0.25), record(accuracy=0.75)
    assert first.key == second.key
    assert publish_record(store, first) == first
    assert publish_record(store, second) == first
    assert read_record(store, "evaluate", first.key) == first


def test_many_writers_at_once_agree(store: Store) -> None:
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda i: publish_record(store, record(accuracy=i / 16)), range(16)))
    assert len({result.output["metrics"]["accuracy"] for result in results}) == 1


def test_there_is_no_record_before_it_is_published(store: Store) -> None:
    assert read_record(store, "evaluate", "0" * 64) is None


def test_measurements_belong_to_one_output_and_the_first_stay(store: Store) -> None:
    one, other = evaluation(0.25), evaluation(0.75)
    write_measurements(store, "evaluate", "k", one, {"seconds": 1})
    write_measurements(store, "evaluate", "k", one, {"seconds": 2})
    write_measurements(store, "evaluate", "k", other, {"seconds": 3})
    assert read_measurements(store, "evaluate", "k", one) == {"seconds": 1}
    assert read_measurements(store, "evaluate", "k", other) == {"seconds": 3}
    assert read_measurements(store, "evaluate", "none", one) == {}


def test_damaged_measurements_are_a_store_error(store: Store) -> None:
    write_measurements(store, "evaluate", "k", evaluation(), {"seconds": 1})
    (name,) = [info.key for info in store.list("measurements/")]
    store.put(name, b"{")
    with pytest.raises(StoreError, match="measurements"):
        read_measurements(store, "evaluate", "k", evaluation())


def test_a_record_is_plain_canonical_json_in_the_store(store: Store) -> None:
    written = publish_record(store, record({"b": 1, "a": [1.5, None]}))
    data, _ = store.read(record_name("evaluate", written.key))
    assert data == canonical_json(json.loads(data))
