"""Where the cluster comes from: kind makes one; `current` takes the one that kubectl talks to, and its images."""

import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path

from local.shell import ask, call, need

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
NAME = "conveyor"


class Provider(ABC):
    """One way to have a cluster."""

    env: Mapping[str, str]
    """Environment in which kubectl, helm and conveyor find it."""

    @abstractmethod
    def up(self, image: str, minio: str) -> None:
        """The cluster runs and knows both images afterwards."""

    @abstractmethod
    def down(self) -> bool:
        """Remove the cluster; False where that is not ours to do."""


class Kind(Provider):
    """A cluster in Docker containers. Its kubeconfig is a file of its own: ~/.kube/config is left alone."""

    def __init__(self, folder: Path) -> None:
        self._kubeconfig = folder / "kubeconfig"
        self.env = {"KUBECONFIG": str(self._kubeconfig)}

    def up(self, image: str, minio: str) -> None:
        need("docker", "kind", "kubectl", "helm")
        self._kubeconfig.parent.mkdir(parents=True, exist_ok=True)
        if NAME in ask("kind", "get", "clusters").split():
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
        if not _is_built(image):
            call(sys.executable, str(ROOT / "tools" / "images" / "build.py"), "cpu")
        if not _is_built(minio):
            call("docker", "build", "--tag", minio, str(ROOT / "docker" / "minio"))
        for each in (image, minio):
            call("kind", "load", "docker-image", each, "--name", NAME)

    def down(self) -> bool:
        need("docker", "kind")
        call("kind", "delete", "cluster", "--name", NAME, env=self.env)
        self._kubeconfig.unlink(missing_ok=True)
        return True


class Current(Provider):
    """The cluster of the current kubeconfig, whose nodes know the images already."""

    def __init__(self) -> None:
        self.env = {}

    def up(self, image: str, minio: str) -> None:
        need("kubectl", "helm")
        ask("kubectl", "version", "--request-timeout=10s")

    def down(self) -> bool:
        return False


def _is_built(image: str) -> bool:
    return bool(ask("docker", "image", "ls", "--quiet", image))


def provider(name: str, folder: Path) -> Provider:
    return Kind(folder) if name == "kind" else Current()


def has_default_storage_class(env: Mapping[str, str]) -> bool:
    """Whether a claim without a class gets a volume."""
    mark = r"{.items[*].metadata.annotations.storageclass\.kubernetes\.io/is-default-class}"
    return "true" in ask(
        "kubectl", "get", "storageclass", "-o", f"jsonpath={mark}", env={**os.environ, **env}
    )
