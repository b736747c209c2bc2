"""A pod whose /tmp is too full is ended by the kubelet like one whose node is drained, and yet has failed."""

import os
import signal
from pathlib import Path

import pytest

from components.common.errors import StepError
from components.common.failed import read_failure, telling_failure
from components.common.failures import graceful
from components.common.full_disk import DISK_LIMIT, SIZED_AS, bytes_in
from components.common.runs import JOB
from components.common.store import Store, open_store
from components.common.watch import FULL_DISK, MARK, STEP, mark_running

LIMIT = 10 << 20


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "store"))


@pytest.fixture
def tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of a pod whose step runs, with half of what it may hold."""
    folder = tmp_path / "tmp"
    (folder / "scratch").mkdir(parents=True)
    (folder / "scratch" / "shards").write_bytes(os.urandom(LIMIT // 2))
    variables = {JOB: "p1", MARK: str(folder / "mark"), DISK_LIMIT: str(LIMIT)}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    mark_running(STEP)
    return folder


def end_in_the_middle(store: Store, tmp: Path) -> None:
    """SIGTERM to a step that then tidies up."""
    with graceful(), telling_failure(store, "r", "preprocess"):
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            (tmp / "scratch" / "shards").unlink()


def test_a_step_that_is_ended_with_too_much_in_tmp_has_failed(store: Store, tmp: Path) -> None:
    (tmp / "more").write_bytes(os.urandom(LIMIT // 2 + 1))
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(StepError, match="its /tmp was full") as caught:
        end_in_the_middle(store, tmp)
    assert caught.value.exit_code == 3, "130 costs a training no try: it could fill its /tmp for ever"
    word = read_failure(store, "r", "preprocess")
    assert word is not None
    assert word.what == "preprocess was evicted: its /tmp was full (limit 10 MiB)"
    assert word.todo == "raise kubernetes.resources.preprocess.disk"
    assert (tmp / "mark").read_text() == FULL_DISK, (
        "for the case that the kubelet kills it before it has told"
    )
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_step_that_is_ended_with_less_in_it_was_interrupted(store: Store, tmp: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        end_in_the_middle(store, tmp)
    assert read_failure(store, "r", "preprocess") is None
    assert not (tmp / "mark").exists(), "one that is slow to end, and killed for that, has not failed"


def test_it_says_whose_disk_is_to_be_raised(store: Store, tmp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An MPIJob's launcher runs the step `train`, and has its own resources."""
    monkeypatch.setenv(SIZED_AS, "launcher")
    monkeypatch.setenv(DISK_LIMIT, "1")
    with pytest.raises(StepError) as caught:
        end_in_the_middle(store, tmp)
    assert caught.value.todo == "raise kubernetes.resources.launcher.disk"


def test_an_error_of_the_step_stays_what_it_is(store: Store, tmp: Path) -> None:
    with pytest.raises(StepError, match="of its own"), telling_failure(store, "r", "preprocess"):
        raise StepError("of its own")


def test_what_is_counted_is_what_the_disk_holds(tmp_path: Path) -> None:
    (tmp_path / "sparse").touch()
    os.truncate(tmp_path / "sparse", 1 << 30)
    outside = tmp_path.parent / f"{tmp_path.name}-outside"
    outside.write_bytes(bytes(1 << 20))
    (tmp_path / "link").symlink_to(outside)
    assert bytes_in(tmp_path) < 1 << 16
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_bytes(os.urandom(1 << 20))
    assert 1 << 20 <= bytes_in(tmp_path) < 2 << 20
    assert bytes_in(tmp_path / "nowhere") == 0
