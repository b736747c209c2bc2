"""Any store against a simple model: what is reached or young stays, all else goes, and nothing is left dangling."""

import hashlib
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.common.blobs import Blobs, blob_key
from components.common.canonical import Json, canonical_json
from components.common.records import record_name
from components.common.store.file import FileStore
from components.common.trees import Tree
from pipelines.collector import collect
from pipelines.survey import Policy
from pipelines.verify import verify
from support.aged_store import QUIET, age

pytestmark = pytest.mark.integration

BLOBS = range(6)


@dataclass(frozen=True)
class Result:
    """A record: the blobs of its output, the records whose outputs it took, whether it is old."""

    blobs: frozenset[int]
    inputs: frozenset[int]
    old: bool


@dataclass(frozen=True)
class World:
    results: tuple[Result, ...]
    runs: tuple[tuple[frozenset[int], bool], ...]
    """For each run: the records that it points to, and whether it is old."""
    young_blobs: frozenset[int]


@st.composite
def worlds(draw: st.DrawFn) -> World:
    results = []
    for index in range(draw(st.integers(0, 5))):
        inputs = draw(st.frozensets(st.integers(0, index - 1), max_size=2)) if index else frozenset()
        results.append(
            Result(draw(st.frozensets(st.sampled_from(BLOBS), max_size=3)), inputs, draw(st.booleans()))
        )
    pointed = st.frozensets(st.integers(0, len(results) - 1), max_size=3) if results else st.just(frozenset())
    runs = draw(st.lists(st.tuples(pointed, st.booleans()), max_size=3))
    return World(tuple(results), tuple(runs), draw(st.frozensets(st.sampled_from(BLOBS), max_size=2)))


def key_of(index: int) -> str:
    return hashlib.sha256(str(index).encode()).hexdigest()


def build(world: World, store: FileStore) -> tuple[list[str], list[str]]:
    """Write it; the digests of the blobs and of each record's tree."""
    blobs = Blobs(store)
    digests = [blobs.put(f"blob {number}".encode())[0] for number in BLOBS]
    trees = []
    for index, result in enumerate(world.results):
        entries = {f"blob{number}": (digests[number], 6) for number in result.blobs}
        trees.append(Tree.write(blobs, {**entries, "own": blobs.put(f"own {index}".encode())}))
        record: Json = {
            "kind": "record",
            "version": 1,
            "step": "s",
            "key": key_of(index),
            "code": digests[0],
            "config": {},
            "inputs": {f"i{number}": {"tree": trees[number]} for number in result.inputs},
            "depends_on": {},
            "output": {"kind": "dummy", "version": 1, "tree": trees[index]},
        }
        store.put(record_name("s", key_of(index)), canonical_json(record))
    for number, (pointed, _) in enumerate(world.runs):
        for index in pointed:
            pointer = canonical_json({"version": 1, "step": "s", "key": key_of(index)})
            store.put(f"runs/run-{number}/s{index}.json", pointer)
    age(store)
    young = [record_name("s", key_of(index)) for index, result in enumerate(world.results) if not result.old]
    young += [blob_key(digests[number]) for number in world.young_blobs]
    for number, (_, old) in enumerate(world.runs):
        young += [] if old else [info.key for info in store.list(f"runs/run-{number}/")]
    for key in young:
        store.touch(key)
    return digests, trees


@settings(max_examples=15, deadline=None)
@given(worlds())
def test_exactly_what_is_not_needed_goes(world: World) -> None:
    folder = Path(tempfile.mkdtemp())
    try:
        store = FileStore(folder)
        digests, trees = build(world, store)
        collect(store, Policy(keep_runs=0), QUIET)

        kept_runs = [pointed for pointed, old in world.runs if not old]
        stays = {i for i, r in enumerate(world.results) if not r.old or any(i in run for run in kept_runs)}
        needed = {index for i in stays for index in (i, *world.results[i].inputs)}
        expected = {blob_key(digests[number]) for number in world.young_blobs}
        expected |= {blob_key(trees[index]) for index in needed}
        expected |= {blob_key(digests[number]) for index in needed for number in world.results[index].blobs}
        expected |= {blob_key(Tree.read(Blobs(store), trees[index])["own"].digest) for index in needed}
        assert {info.key for info in store.list("blobs/")} == expected
        assert {info.key for info in store.list("records/")} == {record_name("s", key_of(i)) for i in stays}
        assert verify(store, QUIET).faults == []
    finally:
        shutil.rmtree(folder)
