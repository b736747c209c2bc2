"""`make images-pin` against a real registry, and builds that follow its lock."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.containers import docker, need_engine
from support.small_pipeline import ROOT

pytestmark = [pytest.mark.containers, pytest.mark.timeout(600, func_only=True)]

BASE = "python:3.11-slim-bookworm"
GO_BASE = "golang:1.25"
CRANE = "github.com/google/go-containerregistry/cmd/crane@v0.20.6"


def crane() -> str:
    """go-containerregistry's program, which has a registry in it; built once into the user's cache."""
    if found := shutil.which("crane"):
        return found
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "conveyor" / "bin"
    if not (cache / "crane").exists():
        if shutil.which("go") is None:
            pytest.skip("NO REGISTRY TO TEST AGAINST: neither crane nor Go is on the PATH")
        env = {**os.environ, "GOBIN": str(cache)}
        made = subprocess.run(
            ["go", "install", CRANE], env=env, capture_output=True, text=True, check=False, timeout=1200
        )
        if made.returncode:
            pytest.skip(f"NO REGISTRY TO TEST AGAINST: crane cannot be built: {made.stderr[-500:]}")
    return str(cache / "crane")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(address: str) -> bool:
    try:
        urllib.request.urlopen(f"http://{address}/v2/", timeout=5).close()
    except OSError:
        return False
    return True


@pytest.fixture(scope="module")
def registry() -> Iterator[str]:
    """Address of an empty registry on this machine, which engines speak plain HTTP to."""
    need_engine()
    address = f"127.0.0.1:{free_port()}"
    with subprocess.Popen(
        [crane(), "registry", "serve", "--address", address],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as server:
        try:
            end = time.monotonic() + 120
            while not answers(address):
                assert time.monotonic() < end, "the registry does not answer"
                time.sleep(0.05)
            yield address
        finally:
            server.terminate()


@pytest.fixture(scope="module")
def digest(registry: str) -> Iterator[str]:
    """The base of this machine, pushed; its digest in that registry."""
    if docker("image", "inspect", BASE).status:
        pytest.skip(f"NO BASE TO PUSH: {BASE} is not in the engine; build the image first")
    names = [f"{registry}/{BASE}", f"{registry}/{GO_BASE}"]
    for name in names:  # what is in them does not matter
        assert docker("tag", BASE, name).status == 0
        pushed = docker("push", name)
        assert pushed.status == 0, pushed.err
    yield next(word for word in pushed.out.split() if word.startswith("sha256:") and len(word) == 71)
    docker("image", "rm", *names)


def pin(mirror: str, lock: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "tools/images/pin.py", "--mirror", mirror, "--lock", str(lock)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_a_tag_becomes_the_registry_s_digest(registry: str, digest: str, tmp_path: Path) -> None:
    lock = tmp_path / "bases.lock"
    done = pin(registry, lock)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{GO_BASE} {digest}\n{BASE} {digest}\n"
    assert f"\n{BASE} {digest}\n" in lock.read_text()
    again = lock.read_bytes()
    assert pin(registry, lock).returncode == 0
    assert lock.read_bytes() == again


def test_a_build_starts_from_the_digest(registry: str, digest: str, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("ARG BASE\nFROM ${BASE}\nRUN python3 --version\n")
    base = f"{registry}/{BASE}@{digest}"
    built = docker("build", "--quiet", "--build-arg", f"BASE={base}", tmp_path)
    assert built.status == 0, built.err
    docker("image", "rm", built.out.strip())


def test_one_message_and_the_old_lock_where_no_registry_answers(tmp_path: Path) -> None:
    need_engine()
    lock = tmp_path / "bases.lock"
    lock.write_text("# as it was\n")
    done = pin(f"127.0.0.1:{free_port()}", lock)
    assert done.returncode == 1
    assert "cannot be had from its registry" in done.stderr
    assert "bases.lock is unchanged" in done.stderr
    assert "Traceback" not in done.stderr
    assert lock.read_text() == "# as it was\n"
    assert [path.name for path in tmp_path.iterdir()] == ["bases.lock"]


def test_a_tag_that_the_registry_lacks(registry: str, tmp_path: Path) -> None:
    done = pin(f"{registry}/nobody", tmp_path / "bases.lock")
    assert done.returncode == 1
    assert not (tmp_path / "bases.lock").exists()
