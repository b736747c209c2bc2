"""`make kind-up` where kind is not there: said at once, with what to install; and what kind itself would be told."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from local.cluster import HERE, Kind

ROOT = Path(__file__).resolve().parents[3]
TOOL = ROOT / "tools" / "local_cluster.py"
RECORDER = """#!{python}
import sys, pathlib
with pathlib.Path({log!r}).open("a") as file:
    print(pathlib.Path(sys.argv[0]).name, *sys.argv[1:], file=file)
"""


def call(*arguments: str, path: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(TOOL), *arguments],
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )


def test_missing_programs_are_named_with_their_cures(tmp_path: Path) -> None:
    done = call("up", "--folder", str(tmp_path / "folder"), path=str(tmp_path))
    assert done.returncode == 3
    for name in ("docker", "kind", "kubectl", "helm"):
        assert f"{name} is not on the PATH: " in done.stderr
    assert "Traceback" not in done.stderr


def test_a_cluster_that_does_not_answer_is_told(tmp_path: Path) -> None:
    for name in ("kubectl", "helm"):
        program = tmp_path / name
        program.write_text(f"#!{sys.executable}\nimport sys\nsys.exit('nobody answers')\n")
        program.chmod(0o755)
    done = call("up", "--provider", "current", "--folder", str(tmp_path / "f"), path=str(tmp_path))
    assert (done.returncode, "nobody answers" in done.stderr) == (3, True)


def test_what_kind_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kind cannot run here: at least the commands are what its manual says, and nothing else is touched."""
    log = tmp_path / "log"
    for name in ("docker", "kind", "kubectl", "helm"):
        program = tmp_path / name
        program.write_text(RECORDER.format(python=sys.executable, log=str(log)))
        program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("local.cluster._is_built", lambda image: image.startswith("conveyor"))
    kind = Kind(tmp_path / "folder")
    kind.up("conveyor:cpu", "minio/minio:local")
    assert kind.down() is True
    assert log.read_text().splitlines() == [
        "kind get clusters",
        f"kind create cluster --config {HERE / 'kind.yaml'} --wait 120s",
        f"docker build --tag minio/minio:local {ROOT / 'docker' / 'minio'}",
        "kind load docker-image conveyor:cpu --name conveyor",
        "kind load docker-image minio/minio:local --name conveyor",
        "kind delete cluster --name conveyor",
    ]
    assert kind.env == {"KUBECONFIG": str(tmp_path / "folder" / "kubeconfig")}
    assert yaml.safe_load((HERE / "kind.yaml").read_text())["kind"] == "Cluster"
