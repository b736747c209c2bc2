"""What a Kubeflow pod does around a step, without kfp."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

import support.dummy.run  # noqa: F401 - makes its reference known
from components.common import kubeflow
from components.common.ends import read_end
from components.common.kubeflow import (
    PID_FILE,
    STOP,
    as_run_id,
    figures,
    good_part,
    run_component,
    settle_in_pod,
)
from components.common.runs import check_run_id
from components.common.store import open_store


class FakeArtifact:
    """A path and metadata, as kfp gives them."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self.metadata: dict[str, Any] = {}


@pytest.mark.parametrize(
    "name",
    ["conveyor-abc12", "My Nightly Run #7", "85798244", "a" * 90 + "-", "...", "Ünïcode", "9f0c-1d", ""],
)
def test_any_name_of_kubeflows_becomes_a_usable_one(name: str) -> None:
    assert check_run_id(as_run_id(name))


def test_figures_are_the_numbers_of_a_reference_by_dotted_name() -> None:
    value = {"version": 1, "kind": "x", "n": 3, "ok": True, "metrics": {"a": 0.5, "b": "no"}, "list": [1, 2]}
    assert figures(value) == {"n": 3, "ok": 1.0, "metrics.a": 0.5}


def test_an_infinite_figure_is_refused() -> None:
    with pytest.raises(ValueError, match="JSON"):
        figures({"loss": float("inf")})


def test_a_component_writes_its_reference_and_is_reused(tmp_path: Path) -> None:
    states = []
    for number in range(2):
        artifact = FakeArtifact(tmp_path / f"ref-{number}" / "reference")
        settings = {"dummy.greeting": "", "dummy.times": 0}
        run_component("support.dummy", "Run 1", str(tmp_path / "store"), "", settings, reference=artifact)
        assert json.loads(Path(artifact.path).read_bytes())["words"] == "hello"
        states.append(artifact.metadata["state"])
    assert states == ["done", "reused"]


def test_the_form_wins_over_the_config(tmp_path: Path) -> None:
    artifact = FakeArtifact(tmp_path / "reference")
    text = "dummy: {greeting: moin, times: 2}\nstore: {url: /nowhere}"
    run_component("support.dummy", "r", str(tmp_path / "store"), text, {"dummy.times": 3}, reference=artifact)
    assert json.loads(Path(artifact.path).read_bytes())["words"] == "moin moin moin"


@pytest.mark.parametrize(
    ("text", "status"), [("trian: {epochs: 3}", 2), ("promote: {no: 1}", 2), ("dummy: {behaviour: bug}", 3)]
)
def test_a_failure_has_its_status_and_its_cause_in_the_log(
    tmp_path: Path, text: str, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        run_component(
            "support.dummy", "r", str(tmp_path / "store"), text, reference=FakeArtifact(tmp_path / "r")
        )
    assert ended.value.code == status
    assert "error: " in capsys.readouterr().err
    assert not (tmp_path / "r").exists()
    end = read_end(open_store(str(tmp_path / "store")), "r", "dummy")
    assert end is not None
    assert (end.state, end.error["exit_code"]) == ("failed", status)


@pytest.mark.parametrize(
    ("text", "region"),
    [
        ("store: {region: eu-9}\npromote: {min_accuracy: 0.5}\ndummy: {times: 2}", "eu-9"),
        ("store: {region: eu-9}\ntrain: {epoch: 1}", "eu-9"),
        ("store: {region: eu-9", None),
        ("store: {rigeon: x}", None),
        ("", None),
    ],
)
def test_the_store_is_reached_however_wrong_the_rest_of_the_config_is(text: str, region: str | None) -> None:
    found = good_part(text, {"promote": "components.promote", "dummy": "support.dummy"})
    assert found.store.region == region


PROGRAM = """
import sys, time
from pathlib import Path
from components.common import kubeflow
from components.common.failures import graceful
kubeflow.PID_FILE = Path(sys.argv[1])
try:
    with graceful():
        kubeflow.settle_in_pod()
        time.sleep(60)
except KeyboardInterrupt:
    time.sleep(1.5)
    print("ended in good order", flush=True)
    sys.exit(130)
"""


@contextmanager
def a_task(pid_file: Path) -> Iterator[subprocess.Popen[str]]:
    """A program below a shell, as Kubeflow's launcher has it."""
    command = [sys.executable, "-c", PROGRAM, str(pid_file)]
    script = '"$@"; status=$?; echo "the program ended with $status"; exit $status'
    with subprocess.Popen(
        ["sh", "-c", script, "sh", *command],
        env={**os.environ, "KFP_POD_NAME": "pod"},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as task:
        try:
            yield task
        finally:
            with suppress(ProcessLookupError):
                os.killpg(task.pid, signal.SIGKILL)


def stop(pid_file: Path, number: int, init: int) -> None:
    """What Argo runs beside it: it puts the signal's number in, with Go's Sprintf."""
    text = [part.replace(str(PID_FILE), str(pid_file)).replace("%d", str(number)) for part in STOP]
    text[-1] = text[-1].removesuffix(" 1") + f" {init}"
    subprocess.run(text, check=True, timeout=30)


def test_a_task_that_argo_ends_has_the_time_to_end_in_good_order(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    with a_task(pid_file) as task:
        end = time.monotonic() + 60
        while not (pid_file.exists() and pid_file.read_text()):
            assert time.monotonic() < end
            time.sleep(0.05)
        stop(pid_file, signal.SIGTERM, task.pid)
        said, _ = task.communicate(timeout=60)
    assert said == "ended in good order\nthe program ended with 130\n"
    assert task.returncode == 130


def test_before_the_program_has_begun_the_whole_container_is_signalled(tmp_path: Path) -> None:
    with a_task(tmp_path / "pid") as task:
        stop(tmp_path / "another", signal.SIGKILL, task.pid)
        assert task.wait(timeout=30) == -signal.SIGKILL


def test_argo_finds_one_number_to_fill_in() -> None:
    assert "".join(STOP).count("%") == 1
    assert "%d" in STOP[-1]


def test_outside_a_pod_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KFP_POD_NAME", raising=False)
    monkeypatch.setattr(kubeflow, "PID_FILE", tmp_path / "pid")
    before = dict(os.environ)
    settle_in_pod()
    assert dict(os.environ) == before
    assert not (tmp_path / "pid").exists()


def test_a_pod_whose_tmp_cannot_be_written_to_works_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KFP_POD_NAME", "pod")
    monkeypatch.setenv("CONVEYOR_POD", "named")
    monkeypatch.setattr(kubeflow, "PID_FILE", tmp_path / "no" / "pid")
    settle_in_pod()
    assert os.environ["CONVEYOR_POD"] == "named"
