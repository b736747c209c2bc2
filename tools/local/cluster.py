"""Where the cluster comes from: kind makes one; `current` takes the one that kubectl talks to, and its images."""

import os
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path

from local.images import build_command, engine, full_name, minio_command
from local.shell import ask, call, need

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
NAME = "conveyor"
NEED_GIB = 5
"""Memory that the example's run takes at its height, the cluster's own included (tools/local/values.yaml)."""


class Provider(ABC):
    """One way to have a cluster."""

    env: Mapping[str, str]
    """Environment in which kubectl, helm and conveyor find it."""

    def full_name(self, image: str) -> str:
        """What the cluster's nodes call an image."""
        return image

    @abstractmethod
    def up(self, image: str, minio: str, *, build: bool = True) -> None:
        """The cluster runs and knows both images afterwards, built from this work tree where that is asked for."""

    @abstractmethod
    def down(self) -> bool:
        """Remove the cluster; False where that is not ours to do."""


class Kind(Provider):
    """A cluster in Docker containers. Its kubeconfig is a file of its own: ~/.kube/config is left alone."""

    def __init__(self, folder: Path) -> None:
        self._kubeconfig = folder / "kubeconfig"
        self.env = {"KUBECONFIG": str(self._kubeconfig)}
        if engine() != "docker":
            self.env["KIND_EXPERIMENTAL_PROVIDER"] = Path(engine()).name

    def full_name(self, image: str) -> str:
        return full_name(image)

    def up(self, image: str, minio: str, *, build: bool = True) -> None:
        need(engine(), "kind", "kubectl", "helm")
        _warn_of_memory()
        self._kubeconfig.parent.mkdir(parents=True, exist_ok=True)
        if NAME in ask("kind", "get", "clusters", env=self.env).split():
            call("kind", "export", "kubeconfig", "--name", NAME, env=self.env)
        else:
            call(
                "kind",
                "create",
                "cluster",
                "--config",
                str(HERE / "kind.yaml"),
                "--wait",
                "120s",
                env=self.env,
            )
        if build:
            call(*build_command(image))
            call(*minio_command(minio))
        for each in (image, minio):
            self._load(each)

    def _load(self, image: str) -> None:
        """The node gets the image as it is now: kind compares what the tag stands for."""
        if engine() == "docker":
            call("kind", "load", "docker-image", image, "--name", NAME, env=self.env)
            return
        with tempfile.TemporaryDirectory() as folder:  # kind asks docker for images, and nobody else
            archive = str(Path(folder) / "image.tar")
            call(engine(), "save", "--output", archive, image)
            call("kind", "load", "image-archive", archive, "--name", NAME, env=self.env)

    def down(self) -> bool:
        need(engine(), "kind")
        call("kind", "delete", "cluster", "--name", NAME, env=self.env)
        self._kubeconfig.unlink(missing_ok=True)
        return True


class Current(Provider):
    """The cluster of the current kubeconfig, whose nodes know the images already."""

    def __init__(self) -> None:
        self.env = {}

    def up(self, image: str, minio: str, *, build: bool = True) -> None:
        need("kubectl", "helm")
        ask("kubectl", "version", "--request-timeout=10s")

    def down(self) -> bool:
        return False


def _warn_of_memory() -> None:
    """Before the build, and not by a pod that stays Pending: on a Mac the engine's machine has what it was given."""
    if engine() != "docker":
        return  # each engine tells it in its own way
    found = ask("docker", "info", "--format", "{{.MemTotal}}")
    if found.isdigit() and int(found) < NEED_GIB * 2**30:
        print(
            f"warning: the Docker engine has {int(found) / 2**30:.1f} GiB of memory, and the example takes "
            f"{NEED_GIB} GiB: give it more (Docker Desktop: Settings, Resources), or let one pod train, by --values "
            "with config: {kubernetes: {training: {pods: 1}}}",
            flush=True,
        )


def provider(name: str, folder: Path) -> Provider:
    return Kind(folder) if name == "kind" else Current()


def has_default_storage_class(env: Mapping[str, str]) -> bool:
    """Whether a claim without a class gets a volume."""
    mark = r"{.items[*].metadata.annotations.storageclass\.kubernetes\.io/is-default-class}"
    return "true" in ask(
        "kubectl", "get", "storageclass", "-o", f"jsonpath={mark}", env={**os.environ, **env}
    )
