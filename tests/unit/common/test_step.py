"""How every step runs: reuse, keys, measurements, pointers, scratch."""

from pathlib import Path

import pytest

import support.dummy.run as dummy
from components.common.canonical import digest_bytes
from components.common.errors import InputError
from components.common.progress import QuietReporter
from components.common.refs import SnapshotRef
from components.common.runs import read_pointer
from components.common.step import Outcome, execute
from components.common.store import Store, open_store
from support.dummy.config import DummyConfig

DIGEST = digest_bytes(b"x")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "store"))


def snapshot(dataset: str = "d") -> SnapshotRef:
    return SnapshotRef(
        tree=DIGEST,
        dataset=dataset,
        classes=("a", "b"),
        num_accepted=2,
        num_quarantined=0,
        num_duplicates=0,
        reasons={},
        splits={"train": 2, "val": 0, "test": 0},
        channels=1,
        median_height=8,
        median_width=8,
    )


def run(
    store: Store,
    config: DummyConfig | None = None,
    inputs: dummy.Inputs | None = None,
    run_id: str | None = None,
    scratch: Path | None = None,
) -> Outcome:
    return execute(
        dummy,
        config or DummyConfig(),
        inputs or dummy.Inputs(),
        store,
        QuietReporter(),
        run_id=run_id,
        scratch=scratch,
    )


def keys(store: Store) -> list[str]:
    return [info.key for info in store.list()]


def test_the_second_time_is_reused_with_the_same_output_and_measurements(store: Store) -> None:
    first, second = run(store), run(store)
    assert (first.state, second.state) == ("done", "reused")
    assert first.output == second.output
    assert first.key == second.key
    assert second.measurements["loudness"] == 11
    assert second.measurements["seconds"] >= 0
    assert second.measurements == first.measurements


def test_a_reused_step_writes_nothing(store: Store) -> None:
    run(store)
    before = keys(store)
    run(store)
    assert keys(store) == before


def test_settings_and_inputs_change_the_key_and_how_it_is_done_does_not(store: Store) -> None:
    base = run(store).key
    assert run(store, DummyConfig(greeting="moin")).key != base
    assert run(store, inputs=dummy.Inputs(snapshot=snapshot())).key != base
    assert (
        run(store, inputs=dummy.Inputs(snapshot=snapshot("e"))).key
        != run(store, inputs=dummy.Inputs(snapshot=snapshot())).key
    )
    assert run(store, DummyConfig(behaviour="bug")).state == "reused"


def test_what_it_depends_on_besides_changes_the_key(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    base = run(store).key
    monkeypatch.setattr(dummy, "depends_on", lambda config, inputs, store: {"listing": "new"})
    assert run(store).key != base


def test_the_run_points_to_the_record_done_or_reused(store: Store) -> None:
    outcome = run(store, run_id="one")
    run(store, run_id="two")
    for name in ("one", "two"):
        pointer = read_pointer(store, name, "dummy")
        assert pointer is not None
        assert pointer.key == outcome.key


def test_a_failed_step_leaves_no_record_no_pointer_and_no_scratch(store: Store, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    with pytest.raises(InputError, match="does not like"):
        run(store, DummyConfig(behaviour="input_error"), run_id="r", scratch=scratch)
    assert keys(store) == []
    assert list(scratch.iterdir()) == []


def test_after_a_failure_the_same_key_works(store: Store) -> None:
    with pytest.raises(ZeroDivisionError):
        run(store, DummyConfig(behaviour="bug"))
    assert run(store).state == "done"


def test_measurements_stand_before_the_record(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    order = []
    create = type(store).create

    def noted(self: Store, key: str, data: bytes) -> bool:
        order.append(key.partition("/")[0])
        return create(self, key, data)

    monkeypatch.setattr(type(store), "create", noted)
    run(store)
    assert order == ["measurements", "records"]
