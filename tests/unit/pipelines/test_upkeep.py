"""`conveyor gc` and `conveyor verify` as a person calls them."""

import json
from pathlib import Path

import pytest

from components.common.blobs import Blobs, blob_key
from components.common.store.file import FileStore
from pipelines.cli import invoke
from pipelines.graph import Graph, Step
from support.aged_store import age, flip_a_bit, run_dummy

GRAPH = Graph((Step("dummy", "support.dummy"),))


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    """One run, and something that nothing reaches; all of it old."""
    store = FileStore(tmp_path / "store")
    run_dummy(store, "kept", "run-1")
    run_dummy(store, "lost")
    age(store)
    return store


def conveyor(capfd: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    status = invoke(arguments, GRAPH)
    out, err = capfd.readouterr()
    assert "Traceback" not in err
    return status, out, err


def test_gc_is_a_dry_run_by_default(store: FileStore, capfd: pytest.CaptureFixture[str]) -> None:
    before = [info.key for info in store.list()]
    status, out, _ = conveyor(capfd, "gc", "--store", store.url)
    assert status == 0
    assert "would be removed" in out
    assert "records" in out
    assert "needed by 1 run, 1 record" in out
    assert "dry run" in out
    assert [info.key for info in store.list()] == before


def test_gc_delete(store: FileStore, capfd: pytest.CaptureFixture[str]) -> None:
    status, out, _ = conveyor(capfd, "gc", "--store", store.url, "--delete")
    assert (status, "removed from" in out) == (0, True)
    assert len(list(store.list("records/"))) == 1
    status, out, _ = conveyor(capfd, "gc", "--store", store.url)
    assert out.startswith("nothing to remove")


def test_gc_json_and_list(store: FileStore, capfd: pytest.CaptureFixture[str]) -> None:
    status, out, _ = conveyor(capfd, "gc", "--store", store.url, "--keep-runs", "0", "--json", "--list")
    assert status == 0
    found = json.loads(out)
    assert found["deleted"] is False
    assert found["removed"]["runs"]["objects"] == 1
    assert found["removed"]["blobs"]["objects"] == 4
    assert "runs/run-1/dummy.json" in found["objects"]


def test_gc_older_than(store: FileStore, capfd: pytest.CaptureFixture[str]) -> None:
    for duration, num in (("8d", 0), ("6d", 1), ("100h", 1), ("2w", 0)):
        _, out, _ = conveyor(capfd, "gc", "--store", store.url, "--older-than", duration, "--json")
        assert json.loads(out)["removed"].get("runs", {"objects": 0})["objects"] == num


@pytest.mark.parametrize("duration", ["", "7", "d", "1 day", "-1d", "7y"])
def test_a_wrong_duration(store: FileStore, capfd: pytest.CaptureFixture[str], duration: str) -> None:
    status, _, err = conveyor(capfd, "gc", "--store", store.url, "--grace", duration)
    assert status == 2
    assert "such as 90m, 24h or 30d" in err


def test_a_short_grace_is_warned_about(store: FileStore, capfd: pytest.CaptureFixture[str]) -> None:
    status, _, err = conveyor(capfd, "gc", "--store", store.url, "--grace", "1h")
    assert (status, "only while nothing runs" in err) == (0, True)


def test_verify(store: FileStore, capfd: pytest.CaptureFixture[str]) -> None:
    status, out, _ = conveyor(capfd, "verify", "--store", store.url)
    assert status == 0
    assert "is whole: 4 blobs" in out


def test_verify_and_repair_damage(store: FileStore, capfd: pytest.CaptureFixture[str]) -> None:
    digest, _ = Blobs(store).put(b"kept")
    flip_a_bit(store.root / blob_key(digest))
    status, out, _ = conveyor(capfd, "verify", "--store", store.url)
    assert status == 3
    assert f"damaged  {digest}" in out
    assert "needed by records/dummy/" in out
    status, out, _ = conveyor(capfd, "verify", "--store", store.url, "--json")
    assert (status, json.loads(out)["faults"][0]["what"]) == (3, "damaged")
    status, out, _ = conveyor(capfd, "verify", "--store", store.url, "--repair")
    assert (status, "removed:" in out) == (3, True)
    run_dummy(store, "kept", "run-1")
    status, _, _ = conveyor(capfd, "verify", "--store", store.url)
    assert status == 0
