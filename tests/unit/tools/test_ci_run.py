"""`.ci/run` with everything around it replaced: what is not here is skipped, what is here and fails is a failure."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
REUSED = '{"state": "succeeded", "seconds": 1, "steps": {"ingest": {"state": "reused"}}}'
CLUSTER = """
case "$1" in
  bin) echo "$PLACE/servers/bin" ;;
  build) [ "$BROKEN" != build ] ;;
  up) [ "$BROKEN" != up ] && echo kubeconfig ;;
  load) cat "$2" && [ "$BROKEN" != load ] ;;
esac
"""
STARTS = {
    "up": "FAILED   the cluster's start: the cluster did not start (above)",
    "load": "FAILED   the cluster's start: the images could not be loaded (above)",
}


def program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/bash\n{text}\n")
    path.chmod(0o755)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A copy of the script in a project where each program says yes."""
    (tmp_path / "main" / ".ci").mkdir(parents=True)
    shutil.copy(ROOT / ".ci" / "run", tmp_path / "main" / ".ci" / "run")
    for name in ("make", "docker", "go", "g++", "git", "python3.11", "iptables"):
        program(tmp_path / "path" / name, "exit 0")
    program(tmp_path / "path" / "python3", '[ "$BROKEN" != checkers ]')
    program(tmp_path / "main" / ".venv" / "bin" / "conveyor", f"echo '{REUSED}'")
    program(tmp_path / "main" / ".venv" / "bin" / "python", f'exec "{sys.executable}" "$@"')
    program(tmp_path / "shared" / "cluster" / "cluster", CLUSTER)
    return tmp_path


def ci(place: Path, broken: str = "") -> tuple[int, list[str]]:
    """Exit status and the lines of the summary."""
    env = {name: value for name, value in os.environ.items() if name != "CONVEYOR_TEST_BIN"}
    path = f"{place / 'path'}{os.pathsep}{env['PATH']}"
    done = subprocess.run(
        [str(place / "main" / ".ci" / "run")],
        env={**env, "PATH": path, "PLACE": str(place), "BROKEN": broken},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return done.returncode, done.stdout.partition("=== summary")[2].splitlines()[1:]


def test_where_everything_works_nothing_is_skipped(place: Path) -> None:
    status, summary = ci(place)
    assert [line for line in summary if line.startswith(("FAILED", "skipped"))] == []
    assert (status, summary[-1]) == (0, "lanes: 12 passed, 0 failed, 0 skipped")


@pytest.mark.parametrize("broken", STARTS)
def test_what_is_here_and_fails_is_a_failure(place: Path, broken: str) -> None:
    status, summary = ci(place, broken)
    assert [line for line in summary if line.startswith("FAILED")] == [STARTS[broken]]
    assert status == 1


@pytest.mark.parametrize(
    ("broken", "skipped"),
    [
        ("build", ["store tests against MinIO and versitygw", "cluster"]),
        ("checkers", ["checks by Helm 3 and kube-score"]),
    ],
)
def test_what_others_wrote_and_does_not_build_here_is_skipped(
    place: Path, broken: str, skipped: list[str]
) -> None:
    status, summary = ci(place, broken)
    assert status == 0
    found = [line.removeprefix("skipped  ") for line in summary if line.startswith("skipped")]
    assert [line.partition(":")[0] for line in found] == skipped
    assert all("build failed" in line for line in found)


def test_what_is_not_here_is_skipped(place: Path) -> None:
    shutil.rmtree(place / "shared")
    status, summary = ci(place)
    assert status == 0
    assert [line.partition(":")[0] for line in summary if line.startswith("skipped")] == [
        "skipped  store tests against MinIO and versitygw",
        "skipped  cluster",
    ]
