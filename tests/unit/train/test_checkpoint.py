import threading
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from components.common.blobs import Blobs
from components.common.canonical import canonical_json
from components.common.errors import ConveyorError, InputError, StoreError
from components.common.store import Store, open_store
from components.common.trees import Tree
from components.train.checkpoint import (
    Checkpoint,
    CheckpointWriter,
    list_checkpoints,
    newest_valid,
    read_checkpoint,
    remove_checkpoints,
    write_checkpoint,
)

KEY = "ab" * 32


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "store"))


def write(store: Store, *steps: int, keep: int = 2) -> None:
    for step in steps:
        write_checkpoint(
            store,
            Blobs(store),
            KEY,
            step=step,
            state=f"state {step}".encode(),
            progress={"step": step},
            keep=keep,
        )


def newest(store: Store) -> tuple[Checkpoint | None, list[str]]:
    warnings: list[str] = []
    return newest_valid(store, Blobs(store), KEY, warnings.append), warnings


def test_the_newest_few_are_kept_and_the_newest_is_found(store: Store) -> None:
    write(store, 5, 20, 100)
    assert [name.rpartition("/")[2] for name in list_checkpoints(store, KEY)] == [
        "00000100.json",
        "00000020.json",
    ]
    found, warnings = newest(store)
    assert found is not None
    assert found.step == 100
    assert not warnings
    assert read_checkpoint(Blobs(store), found.tree) == (b"state 100", {"step": 100})


def test_finding_it_takes_no_memory_for_the_model(store: Store) -> None:
    size_bytes = 32 << 20
    write_checkpoint(store, Blobs(store), KEY, step=1, state=bytes(size_bytes), progress={}, keep=1)
    tracemalloc.start()
    try:
        assert newest(store)[0] is not None
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak_bytes < size_bytes // 4


def test_none_is_no_error(store: Store) -> None:
    assert newest(store) == (None, [])


@pytest.mark.parametrize("damage", ["pointer", "digest", "other", "tree", "state", "missing"])
def test_damage_falls_back_to_the_one_before_and_says_so(store: Store, tmp_path: Path, damage: str) -> None:
    write(store, 1, 2)
    found, _ = newest(store)
    assert found is not None
    root = tmp_path / "store"
    if damage == "pointer":
        (root / found.name).write_bytes(b"{")
    elif damage in ("digest", "other"):
        tree = "sha256:?" if damage == "digest" else Blobs(store).put(b"no tree")[0]
        (root / found.name).write_bytes(canonical_json({"version": 1, "step": 2, "tree": tree}))
    else:
        digest = found.tree
        if damage != "tree":
            digest = Tree.read(Blobs(store), found.tree)["state.safetensors"].digest
        hexes = digest.removeprefix("sha256:")
        path = root / "blobs" / hexes[:2] / hexes
        path.chmod(0o644)
        if damage == "missing":
            path.unlink()
        else:
            path.write_bytes(b"state X")
    found, warnings = newest(store)
    assert found is not None
    assert found.step == 1
    assert len(warnings) == 1
    assert "00000002.json is damaged" in warnings[0]


@pytest.mark.parametrize(
    "error", [StoreError("the store's server cannot be reached"), InputError("the credentials have expired")]
)
@pytest.mark.parametrize("blobs_before", [0, 1])
def test_a_store_that_went_away_is_no_damage(
    store: Store, monkeypatch: pytest.MonkeyPatch, error: ConveyorError, blobs_before: int
) -> None:
    write(store, 1, 2)
    asked: list[str] = []
    opened = store.open

    def goes_away(key: str, **options: Any) -> Any:
        asked.append(key)
        if len(asked) > blobs_before:
            raise error
        return opened(key, **options)

    monkeypatch.setattr(store, "open", goes_away)
    warnings: list[str] = []
    with pytest.raises(type(error), match=error.what):
        newest_valid(store, Blobs(store), KEY, warnings.append)
    assert not warnings


def test_what_was_damaged_ahead_does_not_crowd_out_what_is_whole(store: Store, tmp_path: Path) -> None:
    write(store, 10, 20)
    (tmp_path / "store" / list_checkpoints(store, KEY)[0]).write_bytes(b"{")
    write(store, 15, keep=1)
    found, warnings = newest(store)
    assert found is not None
    assert found.step == 15
    assert not warnings


def test_all_can_be_removed(store: Store) -> None:
    write(store, 1, 2)
    remove_checkpoints(store, KEY)
    assert list_checkpoints(store, KEY) == []


class Recorder:
    def __init__(self, error: Exception | None = None) -> None:
        self.written: list[tuple[int, Any, Any]] = []
        self.warnings: list[str] = []
        self.error = error
        self.go, self.began = threading.Event(), threading.Event()

    def write(self, step: int, tensors: dict[str, Any], progress: Any) -> None:
        self.began.set()
        assert self.go.wait(30)
        if self.error:
            raise self.error
        self.written.append((step, tensors, progress))

    def writer(self, **options: Any) -> CheckpointWriter:
        defaults: dict[str, Any] = {"interval_s": 0.0, "interval_steps": None, "start_step": 0}
        return CheckpointWriter(self.write, warn=self.warnings.append, **(defaults | options))


def test_one_at_a_time_and_never_in_the_way() -> None:
    recorder = Recorder()
    writer = recorder.writer()
    assert writer.due(1)
    writer.take(1, {}, {"step": 1})  # returns while the write is still going on
    assert recorder.began.wait(30)
    assert not writer.due(2)
    recorder.go.set()
    writer.close()
    assert writer.due(3)
    assert [step for step, _, _ in recorder.written] == [1]


def test_steps_between_two() -> None:
    recorder = Recorder()
    recorder.go.set()
    writer = recorder.writer(interval_steps=10, start_step=100)
    assert [step for step in range(101, 115) if writer.due(step)] == [110, 111, 112, 113, 114]
    writer.take(110, {}, None)
    writer.close()
    assert not writer.due(119)
    assert writer.due(120)


def test_a_failed_write_warns_and_the_next_is_tried() -> None:
    recorder = Recorder(StoreError("the disk of the store is full"))
    recorder.go.set()
    writer = recorder.writer()
    writer.take(7, {}, None)
    writer.close()
    assert "step 7" in recorder.warnings[0]
    assert "disk of the store is full" in recorder.warnings[0]
    assert writer.due(8)


def test_no_checkpoint_before_the_interval_has_passed() -> None:
    assert not Recorder().writer(interval_s=1000.0).due(10**6)
