"""`make kind-up` where kind is not there: said at once, with what to install; and what kind itself would be told."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from local.cluster import HERE, NEED_GIB, Kind
from local.images import full_name

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


def test_another_engine_that_is_missing_is_named_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONTAINER_ENGINE", "podman")
    done = call("up", "--folder", str(tmp_path / "folder"), path=str(tmp_path))
    assert (done.returncode, "Traceback" in done.stderr) == (3, False)
    assert "podman is not on the PATH: install it" in done.stderr


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
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("CONTAINER_ENGINE", raising=False)
    monkeypatch.setenv("BASE_MIRROR", "mirror.example/hub")
    monkeypatch.setenv("GOPROXY", "off")
    monkeypatch.setenv("IMAGE_ARGS", "--tag other:1 --build-arg 'TORCH_PIP_ARGS=--pre --no-deps'")
    kind = Kind(tmp_path / "folder")
    kind.up("conveyor:mpi", "minio/minio:local")
    assert kind.down() is True
    told = log.read_text().splitlines()
    ours, minio = (line for line in told if line.startswith("docker build"))
    # Built whether the tag is there or not: yesterday's image under today's name would run yesterday's code.
    assert ours.endswith("--tag conveyor:mpi .")
    assert "--target mpi " in ours
    assert "--build-arg TORCH_PIP_ARGS=--pre --no-deps " in ours
    assert "mirror.example/hub/golang:" in minio
    assert "--build-arg GOPROXY=off " in minio
    assert minio.endswith(f"--tag minio/minio:local {ROOT / 'docker' / 'minio'}")
    assert [line for line in told if not line.startswith("docker build")] == [
        "docker info --format {{.MemTotal}}",
        "kind get clusters",
        f"kind create cluster --config {HERE / 'kind.yaml'} --wait 120s",
        "kind load docker-image conveyor:mpi --name conveyor",
        "kind load docker-image minio/minio:local --name conveyor",
        "kind delete cluster --name conveyor",
    ]
    assert kind.env == {"KUBECONFIG": str(tmp_path / "folder" / "kubeconfig")}
    assert yaml.safe_load((HERE / "kind.yaml").read_text())["kind"] == "Cluster"


def test_images_are_taken_as_they_are_where_that_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """And the same with podman, whose images kind must be given as files."""
    log = tmp_path / "log"
    for name in ("podman", "kind", "kubectl", "helm"):
        program = tmp_path / name
        program.write_text(RECORDER.format(python=sys.executable, log=str(log)))
        program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CONTAINER_ENGINE", "podman")
    kind = Kind(tmp_path / "folder")
    kind.up("conveyor:cpu", "minio/minio:local", build=False)
    assert kind.env["KIND_EXPERIMENTAL_PROVIDER"] == "podman"
    told = [line.split() for line in log.read_text().splitlines()]
    assert [line[:3] for line in told] == [
        ["kind", "get", "clusters"],
        ["kind", "create", "cluster"],
        *[["podman", "save", "--output"], ["kind", "load", "image-archive"]] * 2,
    ]
    assert [line[-1] for line in told if line[0] == "podman"] == ["conveyor:cpu", "minio/minio:local"]


def test_the_chart_asks_for_the_images_by_the_names_that_podman_gives_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node takes a name without a registry for docker.io's, and podman calls what it built localhost's."""
    saved, given = tmp_path / "saved", tmp_path / "given"
    for name in ("kind", "kubectl"):
        (tmp_path / name).write_text(f"#!{sys.executable}\n")
    (tmp_path / "podman").write_text(RECORDER.format(python=sys.executable, log=str(saved)))
    (tmp_path / "helm").write_text(
        f"#!{sys.executable}\nimport sys, pathlib\n"
        f"if 'upgrade' in sys.argv: pathlib.Path({str(given)!r}).write_text(sys.stdin.read())\n"
    )
    for name in ("kind", "kubectl", "podman", "helm"):
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("CONTAINER_ENGINE", "podman")
    call("up", "--no-build", "--image", "conveyor:mpi", "--folder", str(tmp_path / "f"), path=str(tmp_path))
    values = json.loads(given.read_text())
    assert values["image"]["repository"] == "localhost/conveyor"
    assert values["storage"]["minio"]["image"]["repository"] == "localhost/minio/minio"
    names = [line.split()[-1] for line in saved.read_text().splitlines()]
    assert names == ["localhost/conveyor:mpi", "localhost/minio/minio:local"]


@pytest.mark.parametrize(
    ("engine", "image", "full"),
    [
        ("docker", "conveyor:cpu", "conveyor:cpu"),
        ("/usr/bin/podman", "conveyor:cpu", "localhost/conveyor:cpu"),
        ("podman", "minio/minio:local", "localhost/minio/minio:local"),
        ("podman", "registry.example/conveyor:cpu", "registry.example/conveyor:cpu"),
        ("podman", "registry:5000/conveyor:cpu", "registry:5000/conveyor:cpu"),
        ("podman", "localhost/conveyor:cpu", "localhost/conveyor:cpu"),
    ],
)
def test_full_names(monkeypatch: pytest.MonkeyPatch, engine: str, image: str, full: str) -> None:
    monkeypatch.setenv("CONTAINER_ENGINE", engine)
    assert full_name(image) == full


def test_too_little_memory_is_told_before_anything_is_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in ("docker", "kind", "kubectl", "helm"):
        program = tmp_path / name
        program.write_text(f"#!{sys.executable}\nprint(2 * 2**30)\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CONTAINER_ENGINE", raising=False)
    Kind(tmp_path / "folder").up("conveyor:cpu", "minio/minio:local", build=False)
    said = capfd.readouterr().out
    assert f"2.0 GiB of memory, and the example takes {NEED_GIB} GiB" in said
    assert said.index("warning") < said.index("kind create cluster")
