"""Lines of pods, shown once, as the pod's own progress would be."""

import io
import json
from pathlib import Path

from components.cluster.relay import Relay
from components.common.progress import BarReporter, JsonReporter, LineReporter, QuietReporter

PROGRESS = {"level": "progress", "message": "epoch", "done": 3, "total": 9, "rate": 1.5, "loss": 0.5}


def shown(*lines: str, rank: str | None = "1") -> str:
    out = io.StringIO()
    relay = Relay(LineReporter(out))
    for line in lines:
        relay.line(line, step="train", rank=rank, pod="p", at="t")
    relay.close()
    return out.getvalue()


def test_a_line_has_its_step_and_rank() -> None:
    assert shown('{"level": "info", "message": "joined", "pods": 2}') == "train/1: joined pods=2\n"
    assert shown('{"level": "warning", "message": "slow"}', rank=None) == "warning: train: slow\n"
    assert shown('{"level": "info", "message": "train: done"}', rank=None) == "train: done\n"
    assert shown("plain words") == "train/1: plain words\n"


def test_fields_called_step_and_rank_stay_fields() -> None:
    assert shown('{"level": "info", "message": "m", "step": 7, "rank": 0}') == "train/1: m step=7 rank=0\n"


def test_progress_stays_progress() -> None:
    assert shown(json.dumps(PROGRESS)) == "train/1: epoch: 3/9 at 1.5/s loss=0.5\n"
    out = io.StringIO()
    relay = Relay(BarReporter(out))
    relay.line(json.dumps(PROGRESS), step="train", rank="0")
    relay.line(json.dumps({**PROGRESS, "done": 9}), step="train", rank="0")
    relay.close()
    relay = Relay(QuietReporter())
    relay.line(json.dumps(PROGRESS), step="train", rank="0")


def test_what_is_for_programs_is_not_shown() -> None:
    reference = {"kind": "model", "tree": "sha256:0", "version": 1}
    error = {"level": "error", "message": "the pod's end tells it"}
    assert shown(json.dumps(reference), json.dumps(error), "") == ""


def test_a_run_passed_on_by_two_launchers_is_told_once() -> None:
    middle, out = io.StringIO(), io.StringIO()
    launcher = Relay(JsonReporter(middle))
    launcher.line('{"level": "info", "message": "joined"}', step="train", rank="0", pod="p0", at="t1")
    launcher.line('{"level": "info", "message": "joined"}', step="train", rank="1", pod="p1", at="t1")
    passed_on = middle.getvalue().splitlines()
    laptop = Relay(LineReporter(out))
    for line in [*passed_on, *passed_on]:  # the second launcher reads them again
        laptop.line(line)
    assert out.getvalue() == "train/0: joined\ntrain/1: joined\n"


def test_the_last_words_and_the_result() -> None:
    relay = Relay(QuietReporter())
    relay.line(json.dumps({"level": "summary", "message": "run r succeeded\n  images 3\n"}))
    relay.line(json.dumps({"run": "r", "state": "succeeded", "steps": {}, "promoted": True}))
    assert relay.summary == "run r succeeded\n  images 3\n"
    assert relay.result is not None
    assert relay.result["promoted"] is True


def test_the_error_of_a_container_is_left_where_kubernetes_reads_it(tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    from components.cluster.diagnose import own_error
    from components.common import failures
    from components.common.errors import InputError

    word = tmp_path / "termination-log"
    word.touch()
    monkeypatch.setattr(failures, "TERMINATION_LOG", word)
    error = InputError("no images", where="s3://b", found='"' * 9000, todo="ä" * 9000)
    failures.print_error(error, io.StringIO())
    assert word.read_text() == ""  # not in a pod
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    failures.print_error(error, io.StringIO())
    assert len(word.read_bytes()) <= 4096
    read = own_error(word.read_text(), "pod p")
    assert isinstance(read, InputError)
    assert (read.what, read.where) == ("no images", "s3://b (pod p)")
