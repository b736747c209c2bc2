"""A copy of an overlay, changed as a person would change it, and applied to a namespace of the cluster."""

import json
import secrets
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from components.common.store import Store, StoreSettings, open_store
from pipelines.cli import invoke
from support.cluster_world import IMAGE, Object, World, delete_namespace, explained, kubectl, wait_until
from support.rendered import MANIFESTS

SECRET_ARGUMENTS = ("create", "secret", "generic", "conveyor-store")


@dataclass(frozen=True)
class Overlay:
    """One overlay's folder, and the namespace that it is applied to."""

    folder: Path
    world: World

    def configure(self, settings: Mapping[str, Any]) -> None:
        """Write its settings and renew its names, as docs/kubernetes.md says."""
        (self.folder / "config.yaml").write_text(yaml.safe_dump(dict(settings)))
        assert invoke(["manifests", str(self.folder)]) == 0

    def use_image(self, image: str) -> None:
        name, _, tag = image.rpartition(":")
        file = self.folder / "kustomization.yaml"
        content = yaml.safe_load(file.read_text())
        content["images"] = [{"name": "conveyor", "newName": name, "newTag": tag}]
        file.write_text(yaml.safe_dump(content, sort_keys=False))

    def schedule(self, settings: Mapping[str, Any]) -> "Overlay":
        """The overlay `retrain` in the same namespace, with the storage that is there (docs/kubernetes.md)."""
        made = Overlay(self.folder.parent / "retrain", self.world)
        (made.folder / "config.yaml").write_text(yaml.safe_dump(dict(settings)))
        file = made.folder / "kustomization.yaml"
        file.write_text(file.read_text().replace("ports/0/port, value: 443", "ports/0/port, value: 9000"))
        made.use_image(IMAGE)
        return made

    def apply(self) -> str:
        """What kubectl said; a warning of the admission fails the test."""
        return self._kubectl("apply")

    def delete(self) -> None:
        self._kubectl("delete", "--wait=true", "--ignore-not-found")
        mine = f"conveyor/run={self.run()}"
        wait_until("all its pods gone", lambda: not self.world.get("pods", mine), timeout_s=180)

    def _kubectl(self, verb: str, *more: str) -> str:
        command = ["kubectl", "-n", self.world.namespace, verb, "-k", str(self.folder), *more]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert not done.stderr.strip(), done.stderr
        return done.stdout

    def run(self) -> str:
        """What its Jobs and pods are labelled with."""
        names = yaml.safe_load_all((self.folder / "names.yaml").read_text())
        (run,) = [each["labels"]["conveyor/run"] for each in names if "labels" in each]
        return str(run)

    def jobs(self) -> dict[str, Object]:
        """Step → its Job of the present names."""
        found = self.world.get("jobs", f"conveyor/run={self.run()}")
        return {job["metadata"]["labels"]["app.kubernetes.io/component"]: job for job in found}

    def wait_for(self, step: str, *, timeout_s: float = 600) -> str:
        """How the Job of a step ended: Complete or Failed."""

        def ended() -> str | None:
            conditions = self.jobs()[step]["status"].get("conditions", [])
            return next((c["type"] for c in conditions if c["type"] in ("Complete", "Failed")), None)

        how: str = wait_until(f"{step} has ended", ended, timeout_s=timeout_s, every_s=2)
        return how

    def log(self, step: str, container: str = "conveyor") -> str:
        return self.world.kubectl("logs", f"job/{self.jobs()[step]['metadata']['name']}", "-c", container)

    def said_at(self, step: str, container: str, words: str) -> float:
        """When a container first said something, in seconds since the epoch by its node's clock."""
        job = self.jobs()[step]["metadata"]["name"]
        log = self.world.kubectl("logs", f"job/{job}", "-c", container, "--timestamps")
        line = next((each for each in log.splitlines() if words in each), None)
        assert line is not None, log
        return datetime.fromisoformat(line.split()[0]).timestamp()

    @contextmanager
    def store(self, url: str) -> Iterator[Store]:
        """The store in the cluster's storage; use it only within the process whose environment has its credentials."""
        with self.world.forwarded("pod/conveyor-storage-0", 9000) as port:
            yield open_store(url, StoreSettings(endpoint=f"http://127.0.0.1:{port}"))


@contextmanager
def applied_to(overlay: str, folder: Path) -> Iterator[Overlay]:
    """A namespace enforcing `restricted`, with a volume for the storage, and a copy of the manifests for it.

    Nothing is applied yet. Everything is removed at the end.
    """
    world = World(f"test-manifests-{secrets.token_hex(3)}")
    marks = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
    namespace = {"metadata": {"name": world.namespace, "labels": {**marks, "conveyor-test": "1"}}}
    kubectl("create", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "Namespace", **namespace}))
    volume = None
    try:
        if not _has_default_storage():
            volume = _volume(world.namespace, folder / "volume")
        shutil.copytree(MANIFESTS, folder / "manifests")
        made = Overlay(folder / "manifests" / "overlays" / overlay, world)
        made.use_image(IMAGE)
        with explained(world):
            yield made
    finally:
        try:
            delete_namespace(world)
        finally:
            if volume is not None:
                kubectl("delete", "persistentvolume", volume, "--wait=false", "--ignore-not-found")


def make_secret(world: World) -> None:
    """As docs/kubernetes.md says."""
    keys = {"access-key": world.access_key, "secret-key": world.secret_key}
    world.kubectl(*SECRET_ARGUMENTS, *(f"--from-literal={name}={value}" for name, value in keys.items()))


def _has_default_storage() -> bool:
    classes = json.loads(kubectl("get", "storageclass", "-o", "json"))["items"]
    default = "storageclass.kubernetes.io/is-default-class"
    return any(each["metadata"].get("annotations", {}).get(default) == "true" for each in classes)


def _volume(namespace: str, folder: Path) -> str:
    """A volume on this machine, where the cluster's one node is this machine too."""
    folder.mkdir(parents=True)
    (node,) = json.loads(kubectl("get", "nodes", "-o", "json"))["items"]
    host = node["metadata"]["labels"]["kubernetes.io/hostname"]
    expression = {"key": "kubernetes.io/hostname", "operator": "In", "values": [host]}
    volume = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": namespace, "labels": {"conveyor-test": "1"}},
        "spec": {
            "capacity": {"storage": "20Gi"},
            "accessModes": ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Retain",
            "claimRef": {"namespace": namespace, "name": "data-conveyor-storage-0"},
            "local": {"path": str(folder)},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}},
        },
    }
    kubectl("create", "-f", "-", stdin=json.dumps(volume))
    return namespace
