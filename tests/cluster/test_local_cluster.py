"""`make kind-up` without kind: the same command in the cluster at hand, with Helm 3 where it is here."""

import json
import os
import secrets
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.chart import helms
from support.chart_world import RELEASE
from support.cluster_world import IMAGE, MINIO, World, delete_namespace, wait_until, why_no_cluster
from support.small_pipeline import SMALL

REASON = why_no_cluster() or (None if helms() else "there is no Helm")
pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(1500),
    pytest.mark.skipif(REASON is not None, reason=f"no cluster: {REASON}"),
]
TOOL = Path(__file__).resolve().parents[2] / "tools" / "local_cluster.py"
QUICK = {
    "config": {
        "train": {"epochs": 1, "tensorboard": False},
        **{step: SMALL[step] for step in ("evaluate", "compress")},
        "kubernetes": {"resources": {"default": {"cpu": "50m"}, "launcher": {"cpu": "50m"}}},
    }
}


def call(folder: Path, what: str, world: World, *more: str) -> str:
    """The tool as a person calls it, with the newest-but-one Helm on the PATH."""
    programs = folder / "bin"
    programs.mkdir(exist_ok=True)
    if not (programs / "helm").exists():
        (programs / "helm").symlink_to(helms().get("3", next(iter(helms().values()))))
    command = [sys.executable, str(TOOL), what, "--provider", "current", "--namespace", world.namespace]
    command += ["--image", IMAGE, "--minio", MINIO, "--folder", str(folder), *more]
    done = subprocess.run(
        command,
        env={**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "CONVEYOR_LOG_FORMAT": "lines"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]
    return done.stdout + done.stderr


@pytest.fixture
def world() -> Iterator[World]:
    """A namespace that is not there yet."""
    made = World(f"test-local-{secrets.token_hex(3)}")
    yield made
    delete_namespace(made)


def test_from_nothing_to_a_promoted_model_and_back(world: World, tmp_path: Path) -> None:
    values = tmp_path / "values.yaml"
    values.write_text(json.dumps(QUICK))
    said = call(tmp_path, "up", world, "--values", str(values))
    assert "Phase:          Succeeded" in said  # helm test
    assert "digits version 1 is the champion" in said
    assert "digits" in (tmp_path / "report.html").read_text()
    (train,) = world.get("jobs", "conveyor/step=train")
    assert train["spec"]["completions"] == 2

    with world.forwarded(f"service/{RELEASE}-metrics", 9464) as port:
        found = wait_until("the exporter has seen the run", lambda: last_run(port))
    assert found == "1.0", "the last run succeeded"

    call(tmp_path, "down", world)
    assert world.kubectl("get", "namespace", world.namespace, "--ignore-not-found") == ""


def last_run(port: int) -> str | None:
    """Whether the run that ended last succeeded, as the exporter says; None while it knows of none."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
            lines = answer.read().decode().splitlines()
    except OSError:
        return None
    return next((line.split()[1] for line in lines if line.startswith("conveyor_last_run_success ")), None)
