"""The chart on a real cluster: a namespace that enforces `restricted`, a volume, and Helm."""

import base64
import json
import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.common.store import Store, open_store
from components.common.store.settings import StoreSettings
from support.chart import CHART
from support.cluster_world import IMAGE, MINIO, World, explained, kubectl, wait_until
from support.small_pipeline import SMALL

Object = dict[str, Any]
RELEASE = "conveyor"
STORE = "s3://conveyor/store"
IMAGES = "s3://conveyor/images"
PATIENCE = ("--timeout", "6m")
"""Helm's, with what it installs, upgrades or rolls back."""
READY_S = 240


@dataclass
class Release(World):
    """One release of the chart, in a namespace of its own."""

    helm_program: str = "helm"
    volume: str | None = None

    def helm(
        self, *arguments: str, values: Object | None = None, check: bool = True, program: str | None = None
    ) -> str:
        """Run Helm in the namespace; `values` go in through stdin."""
        command = [program or self.helm_program, *arguments, "--namespace", self.namespace]
        given = json.dumps(values) if values is not None else None
        if given is not None:
            command += ["--values", "-"]
        done = subprocess.run(command, input=given, capture_output=True, text=True, check=False)
        if check and done.returncode:
            state = self.kubectl("get", "pods,jobs,events", check=False)
            raise AssertionError(f"{' '.join(command)}: {done.stderr}\n{state}")
        return done.stdout + done.stderr

    def install(self, values: Object) -> str:
        return self.helm("install", RELEASE, str(CHART), *PATIENCE, values=values)

    def upgrade(self, values: Object) -> str:
        return self.helm("upgrade", RELEASE, str(CHART), *PATIENCE, values=values)

    def values(self, **more: Any) -> Object:
        """Values of a small, quick installation; `config` in `more` is merged one level deep."""
        repository, _, tag = IMAGE.rpartition(":")
        minio, _, minio_tag = MINIO.rpartition(":")
        persistence: Object = {"size": "1Gi"}
        if self.volume:
            persistence |= {"storageClass": "-", "volumeName": self.volume}
        resources = {"default": {"cpu": "50m", "memory": "2Gi"}, "launcher": {"cpu": "50m", "memory": "1Gi"}}
        config = {
            **SMALL,
            "ingest": {**SMALL["ingest"], "source": IMAGES, "dataset": "stripes"},
            "kubernetes": {"resources": resources},
        }
        for section, settings in more.pop("config", {}).items():
            config[section] = {**config.get(section, {}), **settings}
        return {
            "image": {"repository": repository, "tag": tag},
            "storage": {
                "minio": {"image": {"repository": minio, "tag": minio_tag}, "persistence": persistence}
            },
            "retrain": {"schedule": "0 0 1 1 *", "args": ["--json"]},
            "config": config,
            **more,
        }

    def own_objects(self) -> list[str]:
        """What there is of the release, without what runs of the pipeline left (that goes by its TTL)."""
        kinds = (
            "deployments,statefulsets,cronjobs,jobs,pods,services,configmaps,roles,rolebindings,serviceaccounts,"
            "networkpolicies"
        )
        selector = f"app.kubernetes.io/instance={RELEASE},!conveyor/run"
        return self.kubectl("get", kinds, "-l", selector, "-o", "name").split()

    def uninstall(self, *, leaves: Sequence[str] = ()) -> None:
        """Uninstall, and wait until only `leaves` is there of what the release made."""
        self.helm("uninstall", RELEASE, "--wait", *PATIENCE)
        left: list[str] = []

        def gone() -> bool:
            left[:] = self.own_objects()
            return left == list(leaves)

        try:
            wait_until("the end of what the release made", gone, timeout_s=180)
        except AssertionError as error:
            raise AssertionError(f"{error}; there is {left}") from None

    def held(self) -> tuple[str, dict[str, str]]:
        """What the API server holds besides Secrets, as JSON; and each pod's logs."""
        kinds = "configmaps,jobs,pods,cronjobs,statefulsets,deployments,services,serviceaccounts,events"
        objects = self.kubectl("get", kinds, "-o", "json")
        pods = [each["metadata"]["name"] for each in self.get("pods")]
        told = ("--all-containers", "--tail=-1")
        return objects, {name: self.kubectl("logs", name, *told, check=False) for name in pods}

    def object(self, kind: str, name: str) -> Object | None:
        found = self.kubectl("get", kind, name, "-o", "json", "--ignore-not-found")
        return json.loads(found) if found.strip() else None

    def secret(self) -> dict[str, str]:
        found = self.object("secret", f"{RELEASE}-store")
        assert found is not None
        return {key: base64.b64decode(value).decode() for key, value in found["data"].items()}

    @contextmanager
    def store(self, url: str = STORE) -> Iterator[Store]:
        """The release's MinIO from here, with the credentials of its Secret."""
        # An upgrade that changes its pod replaces it, and does not wait for the new one.
        self.kubectl("rollout", "status", f"statefulset/{RELEASE}-storage", f"--timeout={READY_S}s")
        found = self.secret()
        mine = {"AWS_ACCESS_KEY_ID": found["access-key"], "AWS_SECRET_ACCESS_KEY": found["secret-key"]}
        before = {name: os.environ.get(name) for name in mine}
        os.environ.update(mine)
        try:
            with self.forwarded(f"service/{RELEASE}-storage", 9000) as port:
                yield open_store(url, StoreSettings(endpoint=f"http://127.0.0.1:{port}"))
        finally:
            for name, value in before.items():
                os.environ.pop(name) if value is None else os.environ.update({name: value})

    def upload(self, folder: Path) -> None:
        """Put a folder's files where the source is."""
        # From the bucket's root: a store keeps a note of its own below its prefix.
        with self.store("s3://conveyor") as bucket:
            for path in sorted(path for path in folder.rglob("*") if path.is_file()):
                bucket.put(f"images/{path.relative_to(folder)}", path)

    def tick(self, name: str, *, timeout_s: float = 600) -> tuple[Object, list[str]]:
        """Let the schedule's CronJob run once now: the run as JSON, and the steps that Jobs were made for."""
        before = {job["metadata"]["name"] for job in self.get("jobs")}
        self.kubectl("create", "job", f"--from=cronjob/{RELEASE}-retrain", name)

        def ended() -> str | None:
            path = '{.status.conditions[?(@.status=="True")].type}'
            found = self.kubectl("get", "job", name, "-o", f"jsonpath={path}", check=False)
            return next((each for each in found.split() if each in {"Complete", "Failed"}), None)

        how = wait_until(f"the end of {name}", ended, timeout_s=timeout_s)
        log = self.kubectl("logs", f"job/{name}", "--tail=-1")
        assert how == "Complete", f"{how}\n{log[-6000:]}"
        results = [line for line in log.splitlines() if line.startswith('{"run"')]
        assert len(results) == 1, log[-6000:]
        new = [job for job in self.get("jobs", "conveyor/step") if job["metadata"]["name"] not in before]
        return json.loads(results[0]), sorted(job["metadata"]["labels"]["conveyor/step"] for job in new)


@contextmanager
def release(prefix: str, *, helm: str, durable: bool = True) -> Iterator[Release]:
    """An empty namespace for a release, with a volume to bind; all of it is gone afterwards."""
    made = Release(f"test-{prefix}-{secrets.token_hex(3)}", helm_program=helm)
    marks = {"pod-security.kubernetes.io/enforce": "restricted", "conveyor-test": "1"}
    namespace = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": made.namespace, "labels": marks},
    }
    kubectl("create", "-f", "-", stdin=json.dumps(namespace))
    folder: Path | None = None
    try:
        if durable and not _has_default_class():
            folder = Path(tempfile.mkdtemp(prefix="conveyor-volume-"))
            folder.chmod(0o777)  # the pod runs as a user that is not ours
            made.volume = made.namespace
            _make_volume(made.namespace, folder)
        with explained(made):
            yield made
    finally:
        # Waits for the pods that use the folder. What is left of them on a slow machine goes later.
        gone = ("--wait=true", "--ignore-not-found", "--timeout=300s")
        try:
            kubectl("delete", "namespace", made.namespace, *gone, check=False)
        finally:
            if folder is not None:
                shutil.rmtree(folder, ignore_errors=True)
                kubectl("delete", "pv", made.namespace, "--ignore-not-found", "--wait=false")


def _has_default_class() -> bool:
    found = json.loads(kubectl("get", "storageclass", "-o", "json"))["items"]
    mark = "storageclass.kubernetes.io/is-default-class"
    return any(each["metadata"].get("annotations", {}).get(mark) == "true" for each in found)


def _make_volume(name: str, folder: Path) -> None:
    """A folder of this machine, which is the node of such a cluster."""
    volume = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name, "labels": {"conveyor-test": "1"}},
        "spec": {
            "capacity": {"storage": "1Gi"},
            "accessModes": ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": "",
            "hostPath": {"path": str(folder), "type": "Directory"},
        },
    }
    kubectl("create", "-f", "-", stdin=json.dumps(volume))
