"""PID 1 forwards signals and reaps: a container ends when it is told to, and leaves nothing behind."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from support.containers import Box, docker, shared_folder
from support.small_digits import write_small_digits
from support.small_pipeline import SMALL, write_config

pytestmark = [pytest.mark.containers, pytest.mark.timeout(600, func_only=True)]

PATIENCE_S = 300.0
"""For something to come about; nothing here is measured."""
GRACE_S = 30
"""What a pod gets by default between SIGTERM and SIGKILL."""


def wait_until(happened: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + PATIENCE_S
    while not happened():
        assert time.monotonic() < end, f"waited in vain: {what}"
        time.sleep(0.2)


def processes(container: str) -> list[tuple[int, str]]:
    """Process id on this machine and command line of all that runs in a container."""
    lines = docker("top", container, "-eo", "pid,args").out.splitlines()[1:]
    return [(int(pid), args) for pid, args in (line.split(None, 1) for line in lines)]


@pytest.fixture
def endless(image: str, tmp_path: Path) -> Box:
    """A run whose training does not end by itself."""
    tmp_path.chmod(0o755)
    write_small_digits(tmp_path / "data")
    settings = {
        **SMALL,
        "ingest": {"source": "/data", "dataset": "digits", "num_workers": 1},
        "train": {**SMALL["train"], "workers": 2, "epochs": 100_000},
        "store": {"url": "/store"},
    }
    (tmp_path / "etc").mkdir()
    write_config(tmp_path / "etc/config.yaml", settings)
    mounts = {"/data:ro": tmp_path / "data", "/etc/conveyor:ro": tmp_path / "etc"}
    return Box(image, {**mounts, "/store": shared_folder(tmp_path / "store")})


def test_sigterm_ends_a_training_with_130_and_leaves_no_process(endless: Box) -> None:
    with endless.started(["run", "-f", "/etc/conveyor/config.yaml"]) as container:

        def both_ranks_train() -> bool:
            return sum("components.train.worker" in args for _, args in processes(container)) >= 2

        wait_until(both_ranks_train, "two workers")
        running = processes(container)
        assert running[0][1].startswith("tini --")
        ended = docker("stop", "--time", str(GRACE_S), container)
        assert ended.status == 0, ended.err
        # 137 would say that it had to be killed.
        state = docker("inspect", "--format", "{{.State.ExitCode}}", container).out.strip()
        assert state == "130", docker("logs", "--tail", "20", container)
    assert [pid for pid, _ in running if Path(f"/proc/{pid}").exists()] == []


def test_orphans_are_reaped(image: str) -> None:
    # A grandchild whose parent has gone belongs to PID 1; nobody else can take its exit status.
    program = (
        "import os, pathlib, subprocess, time\n"
        "pid = subprocess.check_output(['sh', '-c', 'sleep 0.1 >&- & echo $!']).decode().strip()\n"
        "end = time.monotonic() + 30\n"
        "while pathlib.Path('/proc', pid).exists() and time.monotonic() < end: time.sleep(0.05)\n"
        "print(pathlib.Path('/proc', pid).exists(), pathlib.Path('/proc/1/comm').read_text().strip())\n"
    )
    ended = Box(image).run("--", "python", "-c", program, entrypoint="tini")
    assert ended.out == "False tini\n", ended.err
