"""The process pool with real deaths."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from components.common.errors import StepError
from components.common.pool import Crashed, CrashPool
from support import crash


def test_results_come_in_order() -> None:
    with CrashPool(crash.square, 3) as pool:
        assert list(pool.map(n for n in range(5))) == [0, 1, 4, 9, 16]
        assert list(pool.map([2, 3])) == [4, 9], "workers are kept for the next map"


def test_a_death_costs_one_task() -> None:
    with CrashPool(crash.square, 2) as pool:
        results = list(pool.map([6, 7, 8, 7, 5]))
    assert results == [36, Crashed(7, "SIGKILL"), 64, Crashed(7, "SIGKILL"), 25]


def test_a_hang_costs_one_task() -> None:
    with CrashPool(crash.square, 2, timeout_s=5) as pool:
        results = list(pool.map([8, 9, 10]))
    assert results == [64, Crashed(9, "no answer within 5 s"), 100]


def test_an_exception_is_raised_here_and_leaves_no_process() -> None:
    with pytest.raises(ValueError, match="eleven"), CrashPool(crash.square, 2) as pool:
        list(pool.map([1, 11]))
    assert not [p for p in psutil.Process().children(recursive=True) if "_worker" in " ".join(p.cmdline())]


def test_workers_that_cannot_start_are_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not a task's fault: without this every image would be called a killer."""
    with CrashPool(crash.square, 1) as pool:
        monkeypatch.setattr(sys, "path", [p for p in sys.path if not p.endswith("tests")])
        with pytest.raises(StepError) as caught:
            list(pool.map([1]))
    assert "No module named 'support'" in (caught.value.found or "")


PARENT = """
import sys, os, signal
from components.common.errors import StepError
from components.common.pool import CrashPool
from support import crash
with CrashPool(crash.pid, 2) as pool:
    print(*pool.map([1, 2]), flush=True)
    {end}
"""


@pytest.mark.parametrize(
    "end", ["os.kill(os.getpid(), signal.SIGKILL)", "os.kill(os.getpid(), signal.SIGINT)"]
)
def test_workers_end_with_their_parent(end: str) -> None:
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run(
        [sys.executable, "-c", PARENT.format(end=end)],
        env=os.environ | {"PYTHONPATH": f"{root}:{root / 'tests'}"},
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == (-signal.SIGKILL if "SIGKILL" in end else -signal.SIGINT)
    workers = [psutil.Process(int(n)) for n in done.stdout.split() if psutil.pid_exists(int(n))]
    _, alive = psutil.wait_procs(workers, timeout=10)
    assert not alive
