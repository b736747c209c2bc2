"""Damage is found, named with what needs it, and put aside so that a run heals it."""

from pathlib import Path

import pytest

from components.common.blobs import Blobs, blob_key
from components.common.canonical import Json, canonical_json, digest_bytes
from components.common.records import record_name
from components.common.store import open_store
from components.common.store.file import FileStore
from components.common.trees import Tree
from pipelines.collector import collect
from pipelines.survey import Policy
from pipelines.verify import Fault, repair, verify
from support.aged_store import QUIET, age, flip_a_bit, run_dummy

pytestmark = pytest.mark.integration


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    return FileStore(tmp_path / "store")


def words(store: FileStore, tree: str) -> str:
    """Digest of the only entry of a dummy's tree."""
    return Tree.read(Blobs(store), tree)["words.txt"].digest


def test_a_whole_store(store: FileStore) -> None:
    run_dummy(store, "one", "run-1")
    run_dummy(store, "two")
    Blobs(store).put(b"stray blobs are not looked at")
    found = verify(store, QUIET)
    assert (found.faults, found.num_blobs, found.num_roots) == ([], 4, 2)
    assert found.size_bytes > 6


def test_an_empty_store(store: FileStore) -> None:
    assert verify(store, QUIET).faults == []


def test_damaged_and_missing_blobs_are_named_with_all_that_need_them(store: FileStore) -> None:
    first, second = run_dummy(store, "one", "run-1"), run_dummy(store, "two", "run-2")
    blob = words(store, first.output.tree)
    flip_a_bit(store.root / blob_key(blob))
    store.delete(blob_key(second.output.tree))
    assert set(verify(store, QUIET).faults) == {
        Fault("damaged", blob, record_name("dummy", first.key)),
        Fault("missing", second.output.tree, record_name("dummy", second.key)),
    }


@pytest.mark.parametrize("damage", ["blob", "tree", "record", "missing blob", "missing record"])
def test_repair_lets_a_run_heal_it(store: FileStore, damage: str) -> None:
    outcome = run_dummy(store, "one", "run-1")
    other = run_dummy(store, "two", "run-2")
    record = record_name("dummy", outcome.key)
    if damage == "blob":
        flip_a_bit(store.root / blob_key(words(store, outcome.output.tree)))
    elif damage == "missing blob":
        store.delete(blob_key(words(store, outcome.output.tree)))
    elif damage == "tree":
        flip_a_bit(store.root / blob_key(outcome.output.tree))
    elif damage == "record":
        store.put(record, b"{")
    else:
        store.delete(record)
    faults = verify(store, QUIET).faults
    assert faults
    removed = repair(store, faults)
    assert not [name for name in removed if other.key in name or "run-2" in name]
    again = run_dummy(store, "one", "run-1")
    assert (again.state, again.output) == ("done", outcome.output)
    assert verify(store, QUIET).faults == []
    assert run_dummy(store, "two").state == "reused"


def test_a_damaged_checkpoint_is_named(store: FileStore) -> None:
    blobs = Blobs(store)
    entry = blobs.put(b"state")
    name = f"checkpoints/{'a' * 64}/00000003.json"
    pointer: Json = {
        "kind": "checkpoint",
        "version": 1,
        "step": 3,
        "tree": Tree.write(blobs, {"state": entry}),
    }
    store.put(name, canonical_json(pointer))
    assert verify(store, QUIET).faults == []
    flip_a_bit(store.root / blob_key(entry[0]))
    assert verify(store, QUIET).faults == [Fault("damaged", entry[0], name)]


def test_a_run_that_points_to_nothing_is_named(store: FileStore) -> None:
    outcome = run_dummy(store, "one", "run-1")
    store.delete(record_name("dummy", outcome.key))
    found = verify(store, QUIET)
    assert found.faults == [Fault("missing", record_name("dummy", outcome.key), "runs/run-1/dummy.json")]


def test_a_collected_store_is_whole(store: FileStore) -> None:
    for number in range(4):
        run_dummy(store, f"greeting {number}", f"run-{number}" if number % 2 else None)
    age(store)
    assert collect(store, Policy(), QUIET).objects
    found = verify(store, QUIET)
    assert (found.faults, found.num_roots) == ([], 2)


def test_the_same_on_s3(s3_store_url: str) -> None:
    store = open_store(s3_store_url)
    blobs = Blobs(store)
    good, bad, lost = blobs.put(b"good"), blobs.put(b"bad one"), blobs.put(b"lost")
    name = f"checkpoints/{'a' * 64}/00000003.json"
    pointer: Json = {"step": 3, "tree": Tree.write(blobs, {"good": good, "bad": bad, "lost": lost})}
    store.put(name, canonical_json(pointer))
    store.put(blob_key(bad[0]), b"bat one")
    store.delete(blob_key(lost[0]))
    found = verify(store, QUIET)
    assert found.faults == [Fault("damaged", bad[0], name)]


def test_a_damaged_model_file_of_the_registry_is_named(store: FileStore) -> None:
    data = b"an ONNX file"
    version: Json = {
        "kind": "model-version",
        "version": 1,
        "registry": "digits",
        "number": 1,
        "challenger": digest_bytes(b"challenger"),
        "created": "2026-11-23T15:00:00+00:00",
        "spec": {
            "name": "int8",
            "model": digest_bytes(data),
            "size_bytes": len(data),
            "classes": ["a", "b"],
            "image_size": 8,
            "stored_size": 8,
            "channels": 1,
            "mean": [0.5],
            "std": [0.2],
        },
        "metrics": {"accuracy": 0.9},
        "num_test": 10,
        "lineage": {},
    }
    store.put("registry/digits/versions/1/version.json", canonical_json(version))
    model = "registry/digits/versions/1/digits/1/model.onnx"
    assert verify(store, QUIET).faults == []  # a version whose promotion was killed early has no model yet
    store.put(model, data)
    found = verify(store, QUIET)
    assert (found.faults, found.num_models) == ([], 1)
    flip_a_bit(store.root / model)
    assert verify(store, QUIET).faults == [Fault("damaged", model, "registry/digits/versions/1/version.json")]
