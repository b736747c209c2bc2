"""What a collection removes, what it leaves, and what it does beside running steps and when killed."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from components.common import keep as keeping
from components.common.blobs import Blobs, blob_key
from components.common.canonical import Json, canonical_json
from components.common.errors import InputError, StoreError
from components.common.keep import NOTICE
from components.common.records import read_record, record_name
from components.common.runs import output_of
from components.common.store import Store, open_store
from components.common.store.file import OWN, FileStore
from components.common.trees import Tree
from pipelines.collector import STALE_S, collect
from pipelines.survey import DAY_S, Policy, Survey, survey
from support.aged_store import QUIET, WEEK_S, age, flip_a_bit, run_dummy
from support.gc_workers import SPAWN, collect_and_hang

pytestmark = pytest.mark.integration


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    return FileStore(tmp_path / "store")


def look(store: Store, policy: Policy | None = None) -> Survey:
    return survey(store, policy or Policy(), time.time())


def condemned(store: Store, policy: Policy | None = None) -> set[str]:
    """All that a collection would remove now."""
    found = look(store, policy)
    return {info.key for infos in (*found.groups.values(), found.leftovers) for info in infos}


def everything(store: Store) -> set[str]:
    return {info.key for info in store.list()}


def test_an_empty_store(store: FileStore) -> None:
    assert condemned(store) == set()
    assert collect(store, Policy(), QUIET).objects == []


def test_what_a_run_reaches_stays(store: FileStore) -> None:
    run_dummy(store, "hello", "run-1")
    age(store)
    before = everything(store)
    assert condemned(store) == set()
    collect(store, Policy(), QUIET)
    assert everything(store) == before


def test_what_nothing_reaches_goes_once_it_is_old(store: FileStore) -> None:
    kept = run_dummy(store, "kept", "run-1")
    lost = run_dummy(store, "lost")
    stray, _ = Blobs(store).put(b"stray")
    assert condemned(store) == set()
    age(store)
    gone = condemned(store)
    assert {key.partition("/")[0] for key in gone} == {"records", "measurements", "blobs"}
    assert record_name("dummy", lost.key) in gone
    assert {blob_key(stray), blob_key(lost.output.tree)} <= gone
    before = everything(store)
    removed = collect(store, Policy(), QUIET)
    assert {info.key for info in removed.objects} == gone
    assert everything(store) == before - gone
    assert Tree.read(Blobs(store), kept.output.tree)
    assert read_record(store, "dummy", kept.key) is not None


def test_a_dry_run_changes_nothing(store: FileStore) -> None:
    run_dummy(store, "lost")
    age(store)
    before = everything(store)
    assert condemned(store)
    assert everything(store) == before


def test_a_young_record_keeps_its_old_blobs(store: FileStore) -> None:
    outcome = run_dummy(store, "hello")
    age(store, prefix="blobs/")
    assert condemned(store) == set()
    age(store, keys=[record_name("dummy", outcome.key)])
    assert record_name("dummy", outcome.key) in condemned(store)


def test_runs_are_forgotten_only_when_asked(store: FileStore) -> None:
    for number in range(5):
        run_dummy(store, f"greeting {number}", f"run-{number}")
        age(store, by_s=(20 - number) * DAY_S, prefix=f"runs/run-{number}/")
        age(store, by_s=(20 - number) * DAY_S, prefix="records/")
    age(store, by_s=30 * DAY_S, prefix="blobs/")

    def forgotten(policy: Policy) -> set[str]:
        return {info.key.split("/")[1] for info in look(store, policy).groups["runs"]}

    assert forgotten(Policy()) == set()
    assert forgotten(Policy(keep_runs=2)) == {"run-0", "run-1", "run-2"}
    assert forgotten(Policy(keep_runs=0)) == {f"run-{number}" for number in range(5)}
    assert forgotten(Policy(older_than_s=18.5 * DAY_S)) == {"run-0", "run-1"}
    assert forgotten(Policy(keep_runs=4, older_than_s=18.5 * DAY_S)) == {"run-0"}
    assert forgotten(Policy(grace_s=21 * DAY_S, keep_runs=0)) == set()

    collect(store, Policy(keep_runs=2), QUIET)
    assert {key.split("/")[1] for key in everything(store) if key.startswith("runs/")} == {"run-3", "run-4"}
    for number in range(5):
        assert (output_of(store, f"run-{number}", "dummy") is not None) == (number >= 3)
    assert len(list(store.list("records/"))) == 2
    assert len(list(store.list("blobs/"))) == 4
    assert condemned(store, Policy(keep_runs=2)) == set()


def test_two_runs_of_one_record_keep_it_until_both_are_forgotten(store: FileStore) -> None:
    for name in ("old", "new"):
        run_dummy(store, "the same", name)
    age(store)
    age(store, by_s=2 * WEEK_S, prefix="runs/old/")
    gone = condemned(store, Policy(keep_runs=1))
    assert gone == {"runs/old/dummy.json"}


def test_inputs_of_a_kept_record_stay(store: FileStore) -> None:
    blobs = Blobs(store)
    pack = blobs.put(b"pack")
    tree = Tree.write(blobs, {"pack": pack})
    outcome = run_dummy(store, "hello", "run-1")
    record = read_record(store, "dummy", outcome.key)
    assert record is not None
    changed = record.model_copy(
        update={"inputs": {"snapshot": {"kind": "snapshot", "tree": tree}, "none": None}}
    )
    store.put(record_name("dummy", outcome.key), canonical_json(changed.model_dump(mode="json")))
    age(store)
    assert condemned(store) == set()


def test_checkpoints_of_unfinished_trainings_stay(store: FileStore) -> None:
    blobs = Blobs(store)
    finished = run_dummy(store, "hello", "run-1").key
    entries = {}
    for key in (finished, "a" * 64):
        entries[key] = blobs.put(f"state of {key}".encode())
        tree = Tree.write(blobs, {"state": entries[key]})
        pointer: Json = {"kind": "checkpoint", "version": 1, "step": 3, "tree": tree}
        store.put(f"checkpoints/{key}/00000003.json", canonical_json(pointer))
        store.put(f"generations/{key}.json", canonical_json({"version": 1, "begun": 2}))
    assert condemned(store) == set()
    age(store)
    gone = condemned(store)
    assert f"checkpoints/{finished}/00000003.json" in gone
    assert f"generations/{finished}.json" in gone
    assert f"generations/{'a' * 64}.json" not in gone
    assert blob_key(entries[finished][0]) in gone
    assert f"checkpoints/{'a' * 64}/00000003.json" not in gone
    assert blob_key(entries["a" * 64][0]) not in gone
    given_up = condemned(store, Policy(older_than_s=6 * DAY_S))
    assert blob_key(entries["a" * 64][0]) in given_up
    store.put(f"checkpoints/{'a' * 64}/00000004.json", b"half a pointer")
    assert blob_key(entries["a" * 64][0]) not in condemned(store)


def test_what_registered_models_name_stays(store: FileStore) -> None:
    blobs = Blobs(store)
    weights = blobs.put(b"weights")
    card: Json = {
        "version": 1,
        "model": weights[0],
        "history": [{"tree": Tree.write(blobs, {"a": blobs.put(b"a")})}],
    }
    store.put("registry/default/1/card.json", canonical_json(card))
    store.put("registry/default/1/model.onnx", b"onnx")
    age(store)
    assert condemned(store, Policy(keep_runs=0, older_than_s=1)) == set()


def test_caches_and_probes(store: FileStore) -> None:
    outcome = run_dummy(store, "hello", "run-1")
    tree = outcome.output.tree.removeprefix("sha256:")
    store.put(f"caches/ingest/data-{tree[:20]}.parquet", b"")
    store.put(f"caches/ingest/data-{'0' * 20}.parquet", b"")
    store.put("caches/other/unknown", b"")
    store.put("probes/0123456789abcdef", b"")
    store.put("probes/0123456789abcdef.json", b"")
    store.put("mine/of/another/program", b"")
    assert condemned(store) == set()
    age(store)
    assert condemned(store) == {f"caches/ingest/data-{'0' * 20}.parquet", "probes/0123456789abcdef"}


def test_scalars_go_with_the_record_of_their_training(store: FileStore) -> None:
    outcome = run_dummy(store, "hello", "run-1")
    store.put(f"tensorboard/{outcome.key[:16]}/events.1", b"")
    store.put(f"tensorboard/{'0' * 16}/events.1", b"")
    assert condemned(store) == set()
    age(store)
    assert condemned(store) == {f"tensorboard/{'0' * 16}/events.1"}


def test_leftovers_of_killed_writers_go(store: FileStore) -> None:
    run_dummy(store, "hello", "run-1")
    left = store.root / OWN / "dead.tmp"
    left.write_bytes(b"half")
    assert condemned(store) == set()
    age(store)
    assert condemned(store) == {f"{OWN}/dead.tmp"}
    collect(store, Policy(), QUIET)
    assert not left.exists()


@pytest.mark.parametrize("damage", ["tree", "record", "pointer"])
def test_nothing_is_removed_from_a_damaged_store(store: FileStore, damage: str) -> None:
    outcome = run_dummy(store, "hello", "run-1")
    Blobs(store).put(b"stray")
    key = {
        "tree": blob_key(outcome.output.tree),
        "record": record_name("dummy", outcome.key),
        "pointer": "runs/run-1/dummy.json",
    }[damage]
    flip_a_bit(store.root / key)
    if damage != "tree":
        store.put(key, b"{" + store.read(key)[0])
    age(store)
    before = everything(store)
    with pytest.raises(StoreError, match=r"damaged|not JSON"):
        collect(store, Policy(), QUIET)
    assert everything(store) == before


# -- beside running steps ----------------------------------------------------------------------------------------------


class Interrupted(FileStore):
    """Calls back just before or after one of its methods touches `key`."""

    def __init__(self, root: Path, method: str, key: str, action: Callable[[], None], *, after: bool) -> None:
        super().__init__(root)
        self._hook: dict[str, Any] = {"method": method, "key": key, "action": action, "after": after}

    def _around(self, method: str, key: str, call: Callable[[], Any]) -> Any:
        hook = self._hook
        due = hook["action"] is not None and hook["method"] == method and hook["key"] == key
        action = hook["action"]
        if due:
            hook["action"] = None
        if due and not hook["after"]:
            action()
        result = call()
        if due and hook["after"]:
            action()
        return result

    def stat(self, key: str) -> Any:
        return self._around("stat", key, lambda: super(Interrupted, self).stat(key))

    def delete(self, key: str) -> None:
        self._around("delete", key, lambda: super(Interrupted, self).delete(key))

    def swap(self, key: str, data: bytes, *, tag: str | None) -> bool:
        return bool(self._around("swap", key, lambda: super(Interrupted, self).swap(key, data, tag=tag)))


@pytest.mark.parametrize(
    ("method", "after"), [("stat", False), ("stat", True), ("delete", False), ("delete", True)]
)
def test_a_blob_taken_up_at_any_moment_is_there_afterwards(
    store: FileStore, method: str, after: bool
) -> None:
    """A step puts the bytes of a condemned blob exactly before or after each look and removal of the collector."""
    digest, _ = Blobs(store).put(b"taken up")
    age(store)
    threads = []

    def take_up() -> None:
        thread = threading.Thread(target=lambda: Blobs(FileStore(store.root)).put(b"taken up"))
        thread.start()
        threads.append(thread)
        # The step either ends at once, or has touched the blob and waits for the notice to go.
        deadline = time.monotonic() + 30
        while thread.is_alive() and time.monotonic() < deadline:
            info = store.stat(blob_key(digest))
            if info is None or time.time() - info.modified < DAY_S:
                break

    collect(Interrupted(store.root, method, blob_key(digest), take_up, after=after), Policy(), QUIET)
    (thread,) = threads
    thread.join(60)
    assert not thread.is_alive()
    assert Blobs(store).read(digest) == b"taken up"


@pytest.mark.parametrize(
    ("method", "after"), [("stat", False), ("stat", True), ("delete", False), ("delete", True)]
)
def test_a_record_taken_up_at_any_moment_is_whole_afterwards(
    store: FileStore, method: str, after: bool
) -> None:
    outcome = run_dummy(store, "taken up")
    age(store)
    threads = []
    name = record_name("dummy", outcome.key)

    def take_up() -> None:
        thread = threading.Thread(target=lambda: run_dummy(FileStore(store.root), "taken up", "run-1"))
        thread.start()
        threads.append(thread)
        deadline = time.monotonic() + 30
        while thread.is_alive() and time.monotonic() < deadline:
            info = store.stat(name)
            if info is None or time.time() - info.modified < DAY_S:
                break

    collect(Interrupted(store.root, method, name, take_up, after=after), Policy(), QUIET)
    (thread,) = threads
    thread.join(60)
    assert not thread.is_alive()
    found = output_of(store, "run-1", "dummy")
    assert found == outcome.output
    blobs = Blobs(store)
    assert [blobs.read(entry.digest) for entry in Tree.read(blobs, found.tree).entries.values()] == [
        b"taken up"
    ]


def test_many_steps_beside_many_collections(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the timing: once `put` has returned, the blob is there."""
    monkeypatch.setattr(keeping, "POLL_S", 0.002)
    lost: list[str] = []
    stop = threading.Event()

    def step(number: int) -> None:
        blobs, data = Blobs(FileStore(store.root)), f"blob {number}".encode()
        for _ in range(25):
            digest, _ = blobs.put(data)
            lost.extend(digest for _ in range(10) if not blobs.exists(digest))
            if blobs.exists(digest):
                age(store, keys=[blob_key(digest)])

    def collector() -> None:
        while not stop.is_set():
            collect(FileStore(store.root), Policy(), QUIET)

    steps = [threading.Thread(target=step, args=(number,)) for number in range(4)]
    background = threading.Thread(target=collector)
    for thread in (background, *steps):
        thread.start()
    for thread in steps:
        thread.join(120)
    stop.set()
    background.join(60)
    assert lost == []


def test_only_one_collection_at_a_time(store: FileStore) -> None:
    Blobs(store).put(b"stray")
    age(store)
    store.put(NOTICE, canonical_json({"version": 1, "collector": "another", "keys": []}))
    with pytest.raises(InputError, match="another 'conveyor gc'"):
        collect(store, Policy(), QUIET)
    age(store, by_s=STALE_S + 1, keys=[NOTICE])
    assert len(collect(store, Policy(), QUIET).objects) == 1
    assert store.stat(NOTICE) is None


def test_a_killed_collection_leaves_a_whole_store(store: FileStore) -> None:
    for number in range(6):
        run_dummy(store, f"greeting {number}", f"run-{number}")
    age(store)
    for stop_after in (1, 5, 6, 9):
        reached = SPAWN.Event()
        process = SPAWN.Process(target=collect_and_hang, args=(store.url, stop_after, reached), daemon=True)
        process.start()
        assert reached.wait(60)
        process.kill()
        process.join(30)
        age(store, by_s=STALE_S + 1, keys=[NOTICE])
        # What points to something still finds it.
        assert look(store).groups["runs"] == []
        for run in {info.key.split("/")[1] for info in store.list("runs/")}:
            output = output_of(store, run, "dummy")
            assert output is not None
            for entry in Tree.read(Blobs(store), output.tree).entries.values():
                Blobs(store).read(entry.digest)
    age(store)
    collect(store, Policy(keep_runs=0), QUIET)
    assert everything(store) == set()


def test_the_same_on_s3(s3_store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(s3_store_url)
    blobs = Blobs(store)
    stray, _ = blobs.put(b"stray")
    taken, _ = blobs.put(b"taken up")
    info = store.stat(blob_key(taken))
    assert info is not None
    tree = Tree.write(blobs, {"kept": blobs.put(b"kept")})
    pointer: Json = {"kind": "checkpoint", "version": 1, "step": 3, "tree": tree}
    store.put(f"checkpoints/{'a' * 64}/00000003.json", canonical_json(pointer))
    # S3 tells time in seconds (a list in milliseconds) and cannot be set back: let two of them pass.
    monkeypatch.setattr(keeping, "REFRESH_AGE_S", -1.0)
    while True:
        assert blobs.keep(taken)
        now = store.stat(blob_key(taken))
        assert now is not None
        if now.modified > info.modified + 1:
            break
    collect(store, Policy(grace_s=0), QUIET, now=now.modified - 0.5)
    assert not blobs.exists(stray)
    assert blobs.read(taken) == b"taken up"
    assert store.stat(NOTICE) is None
    left = collect(store, Policy(grace_s=0), QUIET, now=time.time() + WEEK_S).objects
    assert [info.key for info in left if info.key.startswith("blobs/")] == [blob_key(taken)]
    assert Tree.read(blobs, tree)
