"""What the store still needs: from runs, records, data sets, checkpoints and models to the blobs behind them."""

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Literal

from components.common.blobs import Blobs
from components.common.canonical import Json
from components.common.errors import ConveyorError, StoreError
from components.common.records import Record, parse_record
from components.common.store.base import NotFoundError, ObjectInfo, Store
from components.common.trees import Tree, decode
from components.ingest.heads import read_heads
from pipelines.attempts import Attempt, all_retrainings

THREADS = 16
RECORD = re.compile(r"records/(?P<step>[A-Za-z0-9_-]+)/(?P<key>[0-9a-f]{64})\.json")
CHECKPOINT = re.compile(r"checkpoints/(?P<key>[0-9a-f]{64})/\d+\.json")
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
TREE_HEAD = b'{"conveyor":"tree"'
MAX_TREE_BYTES = 256 << 20
REMADE = frozenset({"shards"})
"""What a registered model does not keep alive: it is large, and a step makes it again from what is kept."""

RootKind = Literal["record", "data set", "checkpoint", "registry document", "attempt"]


@dataclass(frozen=True, slots=True)
class Root:
    """An object of the store that needs blobs."""

    kind: RootKind
    name: str
    trees: tuple[str, ...] = ()
    """Trees that must be whole."""
    loose: tuple[str, ...] = ()
    """Digests of what it came from: kept where they are still there, not missed where they are not."""


@dataclass
class Reached:
    """Every blob that some root needs."""

    needed_by: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """Digest → names of the roots that must have it."""
    loosely: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """Digest → names of the roots that keep it where it exists."""
    broken: dict[str, ConveyorError] = field(default_factory=dict)
    """Trees that cannot be read, and why; they are in `needed_by` too."""

    def __contains__(self, digest: object) -> bool:
        return digest in self.needed_by or digest in self.loosely


def record_root(name: str, record: Record) -> Root:
    """A record needs its output. Its inputs are kept beside it: whoever goes on from it needs them too."""
    inputs = tuple(
        str(ref["tree"]) for ref in record.inputs.values() if isinstance(ref, dict) and "tree" in ref
    )
    tree = record.output.get("tree")
    if not isinstance(tree, str) or not DIGEST.fullmatch(tree):
        raise StoreError(
            "a record without a result", where=name, expected="output.tree, a digest", found=repr(tree)
        )
    return Root("record", name, (tree,), inputs)


def read_records(store: Store, infos: Iterable[ObjectInfo]) -> Iterator[tuple[str, Record]]:
    """Name and content of records; those that vanish meanwhile are left out."""

    def read(info: ObjectInfo) -> tuple[str, Record] | None:
        try:
            data, _ = store.read(info.key)
        except NotFoundError:
            return None
        return info.key, parse_record(data, where=f"{store.url}/{info.key}")

    with ThreadPoolExecutor(THREADS) as pool:
        yield from (found for found in pool.map(read, infos) if found is not None)


def data_set_roots(store: Store) -> Iterator[Root]:
    """The latest snapshot of each data set, and the one before it, which an unchanged source leads back to."""
    for info in store.list("datasets/"):
        heads, _ = read_heads(store, info.key)
        yield Root(
            "data set",
            info.key,
            tuple(head.ref().tree for head in heads.values()),
            tuple(head.parent for head in heads.values() if head.parent is not None),
        )


def checkpoint_root(store: Store, info: ObjectInfo) -> Root | None:
    """A checkpoint's tree; None where it vanished or is damaged: training then takes the one before it."""
    try:
        data, _ = store.read(info.key)
        return Root("checkpoint", info.key, loose=(str(json.loads(data)["tree"]),))
    except (NotFoundError, ValueError, KeyError, TypeError):
        return None


def model_roots(store: Store) -> Iterator[Root]:
    """Every JSON document of the registry, with all digests that it names.

    A version's own files lie in the registry itself; what its lineage names is kept where it exists: weights to start
    the next training from, evaluation, candidates and snapshot. Shards are not: they are made anew from the snapshot.
    """
    for info in store.list("registry/"):
        if not info.key.endswith(".json"):
            continue
        try:
            data, _ = store.read(info.key)
            found = tuple(sorted(set(digests_in(json.loads(data)))))
        except NotFoundError:
            continue
        except ValueError as error:
            raise StoreError(
                "a document of the registry is not JSON", where=f"{store.url}/{info.key}", found=str(error)
            ) from error
        yield Root("registry document", info.key, loose=found)


def attempt_roots(store: Store) -> Iterator[tuple[Root, Attempt]]:
    """The last retraining attempt of each registered model, with the trees that it names, kept where they exist."""
    for name, document in all_retrainings(store):
        if document.attempt is not None:
            found = tuple(sorted(set(digests_in(document.attempt.model_dump(mode="json")))))
            yield Root("attempt", name, loose=found), document.attempt


def digests_in(value: Json) -> Iterator[str]:
    """Every string of a JSON value that is a digest, but for what is under a name in `REMADE`."""
    if isinstance(value, str):
        if DIGEST.fullmatch(value):
            yield value
    elif isinstance(value, Mapping):
        for name, child in value.items():
            if name not in REMADE:
                yield from digests_in(child)
    elif isinstance(value, (list, tuple)):
        for child in value:
            yield from digests_in(child)


def walk(blobs: Blobs, roots: Iterable[Root]) -> Reached:
    """All blobs that `roots` need: their trees, and what the trees list. Each tree is read once, and checked."""
    reached = Reached()
    for root in roots:
        for digest in root.trees:
            reached.needed_by[digest].add(root.name)
        for digest in root.loose:
            reached.loosely[digest].add(root.name)
    trees, rest = list(reached.needed_by), [d for d in reached.loosely if d not in reached.needed_by]
    with ThreadPoolExecutor(THREADS) as pool:
        for digest, found in zip(trees, pool.map(lambda d: _read(blobs, d), trees), strict=True):
            if isinstance(found, ConveyorError):
                reached.broken[digest] = found
                continue
            for entry in found.entries.values():
                reached.needed_by[entry.digest] |= reached.needed_by[digest]
        for digest, tree in zip(rest, pool.map(lambda d: _read_if_tree(blobs, d), rest), strict=True):
            for entry in tree.entries.values() if tree is not None else ():
                reached.loosely[entry.digest] |= reached.loosely[digest]
    return reached


def _read(blobs: Blobs, digest: str) -> Tree | ConveyorError:
    try:
        return Tree.read(blobs, digest)
    except StoreError as error:
        return error


def _read_if_tree(blobs: Blobs, digest: str) -> Tree | None:
    """The tree of that digest; None where it is another blob, damaged, or not there."""
    try:
        size = blobs.size(digest)
        if not len(TREE_HEAD) <= size <= MAX_TREE_BYTES:
            return None
        with blobs.open(digest, 0, len(TREE_HEAD)) as stream:
            if stream.read() != TREE_HEAD:
                return None
        return decode(blobs.read(digest), where=digest)
    except StoreError:
        return None


def steps_and_keys(infos: Iterable[ObjectInfo]) -> dict[tuple[str, str], ObjectInfo]:
    """(step, key) → record object, of a listing of `records/`."""
    found: dict[tuple[str, str], ObjectInfo] = {}
    for info in infos:
        match = RECORD.fullmatch(info.key)
        if match:
            found[match["step"], match["key"]] = info
    return found


def pointed_at(store: Store, infos: Iterable[ObjectInfo]) -> set[tuple[str, str]]:
    """(step, key) of every record that one of these objects of runs points to. Raises `StoreError` for damage."""

    def read(info: ObjectInfo) -> tuple[str, str] | None:
        try:
            data, _ = store.read(info.key)
            value: Any = json.loads(data)
        except NotFoundError:
            return None
        except ValueError as error:
            raise StoreError(
                "a run's pointer is damaged",
                where=f"{store.url}/{info.key}",
                found=str(error),
                todo="remove that object, or run the same run again",
            ) from error
        # A run's result and other documents stand beside its pointers.
        return (str(value["step"]), str(value["key"])) if {"step", "key"} <= set(value) else None

    documents = [info for info in infos if info.key.endswith(".json")]
    with ThreadPoolExecutor(THREADS) as pool:
        return {found for found in pool.map(read, documents) if found is not None}
