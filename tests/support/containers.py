"""Images and containers for the tests that need a Docker engine; the same flags as a pod under `restricted` has."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from support.small_pipeline import ROOT, Ended

UID = 10001
RESTRICTED = [
    "--read-only",
    *("--tmpfs", "/tmp:rw,exec,mode=1777"),
    *("--cap-drop", "ALL"),
    *("--security-opt", "no-new-privileges"),
]
BUILD_S = 2400
"""An image from nothing. The marks of the tests that ask for one do not count it (`func_only`)."""
SITE_PACKAGES = "/opt/conveyor/lib/python3.11/site-packages"


def docker(*arguments: str | Path, timeout_s: float = 300) -> Ended:
    done = subprocess.run(
        ["docker", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    return Ended(done.returncode, done.stdout, done.stderr)


def need_engine() -> None:
    """Skip, and say so loudly, where no engine answers."""
    if shutil.which("docker") is None:
        pytest.skip("NO CONTAINER TEST RAN: there is no docker on the PATH")
    answer = docker("version", "--format", "{{.Server.Version}}")
    if answer.status:
        pytest.skip(f"NO CONTAINER TEST RAN: the Docker engine does not answer: {answer.err.strip()}")


def built(variant: str, variable: str) -> str:
    """The image that the environment's `variable` names, else the one of the work tree, built as a person does."""
    if named := os.environ.get(variable):
        return named
    target = {"cpu": "image"}.get(variant, f"image-{variant}")
    made = subprocess.run(
        ["make", target], cwd=ROOT, capture_output=True, text=True, check=False, timeout=BUILD_S
    )
    assert made.returncode == 0, f"make {target} failed:\n{made.stdout[-3000:]}{made.stderr[-3000:]}"
    return f"conveyor:{variant}"


def inspect(image: str) -> dict[str, Any]:
    found: list[dict[str, Any]] = json.loads(docker("image", "inspect", image).out)
    return found[0]


@dataclass(frozen=True)
class Box:
    """How containers of one image are run: as nobody's root on a read-only root, with some folders mounted."""

    image: str
    mounts: Mapping[str, Path] = field(default_factory=dict)
    """Folder in the container → folder here; a name that ends in `:ro` cannot be written."""
    uid: int = UID

    def flags(self, entrypoint: str | None = None) -> list[str]:
        mounts = []
        for place, source in self.mounts.items():
            inside, _, mode = place.partition(":")
            mounts += ["--volume", f"{source}:{inside}:{mode or 'rw'}"]
        return [
            *RESTRICTED,
            *("--user", f"{self.uid}:{self.uid}", "--shm-size", "256m"),
            *mounts,
            *(["--entrypoint", entrypoint] if entrypoint is not None else []),
        ]

    def run(self, *arguments: str, entrypoint: str | None = None, timeout_s: float = 400) -> Ended:
        """Wait for a container of its own to end."""
        command = ["run", "--rm", *self.flags(entrypoint), self.image, *arguments]
        return docker(*command, timeout_s=timeout_s)

    def python(self, program: str) -> Ended:
        return self.run("-c", program, entrypoint="python")

    @contextmanager
    def started(self, arguments: Sequence[str], entrypoint: str | None = None) -> Iterator[str]:
        """A container that works while the block does; yields its id."""
        begun = docker("run", "--detach", *self.flags(entrypoint), self.image, *arguments)
        assert begun.status == 0, begun.err
        try:
            yield begun.out.strip()
        finally:
            docker("rm", "--force", begun.out.strip())


def shared_folder(path: Path) -> Path:
    """A folder that the container's user may write."""
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(0o777)
    return path
