"""The image for an MPIJob: its ssh server and client work for nobody's root on a read-only root."""

import subprocess
import time
from pathlib import Path

import pytest

from support.containers import UID, Box, docker, inspect

pytestmark = [pytest.mark.containers, pytest.mark.timeout(600, func_only=True)]


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """What the MPI operator mounts: root's files, which the group may read."""
    folder = tmp_path / "ssh"
    folder.mkdir()
    command = ["ssh-keygen", "-q", "-t", "ecdsa", "-N", "", "-f", str(folder / "id_rsa")]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    (folder / "authorized_keys").write_bytes((folder / "id_rsa.pub").read_bytes())
    for path in (tmp_path, folder):
        path.chmod(0o755)
    for path in folder.iterdir():
        path.chmod(0o644)
    return folder


def wait_for_sshd(container: str) -> None:
    end = time.monotonic() + 120
    while "listening" not in (said := docker("logs", container).err):
        assert time.monotonic() < end, f"it does not listen: {said}"
        time.sleep(0.1)


def test_sshd_and_ssh_under_the_restricted_profile(mpi_image: str, keys: Path) -> None:
    box = Box(mpi_image, {"/etc/ssh/conveyor:ro": keys})
    with box.started(["--", "/usr/sbin/sshd", "-De"], entrypoint="tini") as container:
        wait_for_sshd(container)
        # What horovodrun asks of a worker: another session, with the environment's python.
        remote = "id -u; which python horovodrun; python -c 'import horovod.torch' && echo $HOME"
        ended = docker("exec", container, "ssh", "-o", "BatchMode=yes", "localhost", remote)
        assert ended.out.split() == [
            str(UID),
            "/opt/conveyor/bin/python",
            "/opt/conveyor/bin/horovodrun",
            "/tmp",
        ], ended.err


def test_a_stranger_s_key_is_refused(mpi_image: str, keys: Path) -> None:
    (keys / "authorized_keys").write_text("")
    box = Box(mpi_image, {"/etc/ssh/conveyor:ro": keys})
    with box.started(["--", "/usr/sbin/sshd", "-De"], entrypoint="tini") as container:
        wait_for_sshd(container)
        ended = docker("exec", container, "ssh", "-o", "BatchMode=yes", "localhost", "true")
        assert ended.status == 255
        assert "Permission denied" in ended.err


def test_sessions_have_the_image_s_environment(mpi_image: str) -> None:
    text = Box(mpi_image).run("/etc/ssh/sshd_config", entrypoint="cat").out
    (line,) = (line for line in text.splitlines() if line.startswith("SetEnv "))
    image = inspect(mpi_image)["Config"]["Env"]
    assert set(line.split()[1:]) == {each for each in image if not each.startswith("PIP_")}


def test_no_host_key_is_part_of_the_image(mpi_image: str) -> None:
    ended = Box(mpi_image).run(
        "-c", "ls -A /etc/ssh/conveyor /etc/ssh/ssh_host_* 2>/dev/null; true", entrypoint="sh"
    )
    assert ended.out.split() == ["/etc/ssh/conveyor:"] or ended.out == ""


def test_it_is_the_image_and_an_ssh_server(image: str, mpi_image: str) -> None:
    mine, plain = inspect(mpi_image)["Config"], inspect(image)["Config"]
    for name in ("User", "Entrypoint", "WorkingDir", "Env"):
        assert mine[name] == plain[name]
    assert Box(mpi_image).run("--version").out == "conveyor, version 0.1.0\n"
