"""Ctrl-C (and SIGTERM) at any time: exit status 130, a line that says how to go on, nothing left, and it goes on."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from support.images import make_image_folder
from support.small_pipeline import SMALL, Ended, command, conveyor, environment, write_config

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

MARK = "CONVEYOR_INTERRUPT_TEST"
SETTINGS: dict[str, Any] = {
    **SMALL,
    "ingest": {"num_workers": 2},
    "preprocess": {"num_workers": 2},
    "train": {**SMALL["train"], "workers": 2, "checkpoint": {"interval_steps": 4}},
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("interrupt")
    make_image_folder(folder / "images", classes=3, per_class=30, size=(16, 16), fmt="png")
    write_config(folder / "small.yaml", SETTINGS)
    return folder


def run_until(place: Path, store: str, words: str, number: signal.Signals, wait_s: float) -> Ended:
    """Run, and `wait_s` after a line of progress with those words send the signal: Ctrl-C reaches the whole group."""
    process = subprocess.Popen(
        command(["run", "-f", "small.yaml", "--source", "images", "--store", store]),
        cwd=place,
        env=environment({MARK: store}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    assert process.stderr is not None
    lines: list[str] = []
    for line in process.stderr:
        lines.append(line)
        if words in line:
            break
    time.sleep(wait_s)
    if number == signal.SIGINT:
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    out, err = process.communicate(timeout=60)
    return Ended(process.returncode, out, "".join(lines) + err)


def left_over(mark: str) -> list[str]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(" ".join(process.cmdline()))
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_interrupted_in_every_step_and_gone_on_each_time(place: Path, number: signal.Signals) -> None:
    store = f"store-{number.name.lower()}"
    dice = random.Random(store)
    for step in ("ingest", "preprocess", "train", "compress"):
        wait_s = dice.uniform(0.0, 2.0 if step in {"train", "compress"} else 0.3)
        ended = run_until(place, store, f"] {step}", number, wait_s)
        assert ended.status == 130, ended.err
        assert "Traceback" not in ended.err
        assert "KeyboardInterrupt" not in ended.err
        assert "error:" not in ended.err
        assert left_over(store) == []
        verified = conveyor("verify", "--store", store, cwd=place)
        assert verified.status == 0, verified.err
    # The last line is a command that goes on.
    (line,) = [line for line in ended.err.splitlines() if "goes on where it stopped" in line]
    words = line.split("conveyor ", 1)[1].split("   ")[0].split()
    again = conveyor(*words, "--json", cwd=place)
    assert again.status == 0, again.err
    result = again.json()
    assert result["run"] == words[-1]
    assert [result["steps"][name]["state"] for name in ("ingest", "preprocess", "train")] == ["reused"] * 3


# Says when the command has taken over the signals: before that they are Python's own, whatever we do.
READY = "import pipelines.cli as c; run = c.invoke; c.invoke = lambda words: print(flush=True) or run(words); c.main()"


def test_interrupted_before_anything_has_begun(place: Path) -> None:
    """While Python is still importing: no traceback either."""
    for wait_s in (0.1, 0.2, 0.3, 0.5):
        process = subprocess.Popen(
            [sys.executable, "-c", READY, "run", "--source", "x"],
            cwd=place,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(wait_s)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
        assert "Traceback" not in err
        # 2 where it was over already; while Python tears itself down, the signal itself ends it (130 to a shell).
        assert process.returncode in {130, 2, -signal.SIGINT}, err


def test_an_interruption_is_told_as_json_too(place: Path) -> None:
    process = subprocess.Popen(
        command(["run", "-f", "small.yaml", "--source", "images", "--store", "json", "--json"]),
        cwd=place,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "] ingest" in line:
            break
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    ended = Ended(process.returncode, out, err)
    assert ended.status == 130, err
    assert ended.json()["error"]["exit_code"] == 130
    assert ended.json()["state"] == "failed"
