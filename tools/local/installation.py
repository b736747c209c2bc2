"""The chart in a namespace of a cluster, the example's run, and its results."""

import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from local.cluster import HERE, ROOT, has_default_storage_class
from local.shell import LocalError, ask, call

RELEASE = "conveyor"
MARK = "conveyor-local"
STORE = "s3://conveyor/store"
RESTRICTED = "pod-security.kubernetes.io/enforce=restricted"


class Installation:
    """The release `conveyor` in one namespace. `env` leads kubectl and helm to the cluster."""

    def __init__(self, namespace: str, folder: Path, env: Mapping[str, str]) -> None:
        self.namespace, self._folder, self._env = namespace, folder, env

    def install(self, image: str, minio: str, values: list[Path]) -> None:
        """Namespace, chart, the chart's own test; again at will."""
        if not self._kubectl("get", "namespace", self.namespace, "--ignore-not-found", "-o", "name"):
            call("kubectl", "create", "namespace", self.namespace, env=self._env)
            call("kubectl", "label", "namespace", self.namespace, RESTRICTED, f"{MARK}=1", env=self._env)
        chosen: dict[str, Any] = {"image": _parts(image), "storage": {"minio": {"image": _parts(minio)}}}
        if not has_default_storage_class(self._env):
            print("no default StorageClass: MinIO keeps its data in its pod, and loses it with it")
            chosen["storage"]["minio"]["persistence"] = {"enabled": False}
        command = ["helm", "upgrade", "--install", RELEASE, str(ROOT / "charts" / "conveyor")]
        command += ["--namespace", self.namespace, "--timeout", "10m", "--wait"]
        for each in (HERE / "values.yaml", *values):
            command += ["--values", str(each)]
        exporter = f"deployment/{RELEASE}-metrics"
        was_there = self._kubectl("get", exporter, "-n", self.namespace, "--ignore-not-found", "-o", "name")
        call(*command, "--values", "-", env=self._env, stdin=json.dumps(chosen))
        if was_there:  # An image that was built anew has its old name: the pod would stay with what it runs.
            call("kubectl", "rollout", "restart", exporter, "-n", self.namespace, env=self._env)
        call("helm", "test", RELEASE, "--namespace", self.namespace, "--logs", env=self._env)

    def run(self) -> None:
        """The pipeline on the example, from here: every step's words, and its end as the exit status."""
        config = self._folder / "config.yaml"
        config.parent.mkdir(parents=True, exist_ok=True)
        path = r"jsonpath={.data.config\.yaml}"
        text = self._kubectl("get", "configmap", f"{RELEASE}-config", "-n", self.namespace, "-o", path)
        config.write_text(text, encoding="utf-8")
        self._conveyor("run", "--on", "kubernetes", "--namespace", self.namespace, "-f", str(config))

    def results(self) -> Path:
        """Fetch the latest run's report; the path where it lies now."""
        report = self._folder / "report.html"
        report.parent.mkdir(parents=True, exist_ok=True)
        with self._storage() as env:
            self._conveyor("runs", "--store", STORE, env=env)
            self._conveyor("models", "list", "--store", STORE, env=env)
            self._conveyor("report", "--store", STORE, "-o", str(report), env=env)
        return report

    def remove(self) -> None:
        """The release and, where `install` made it, the namespace with all of the results."""
        mark = self._kubectl(
            "get",
            "namespace",
            self.namespace,
            "--ignore-not-found",
            "-o",
            f"jsonpath={{.metadata.labels.{MARK}}}",
        )
        call("helm", "uninstall", RELEASE, "--namespace", self.namespace, "--ignore-not-found", env=self._env)
        if mark == "1":
            call("kubectl", "delete", "namespace", self.namespace, env=self._env)
        else:
            print(f"the namespace {self.namespace} was there before and stays, with the results in it")

    @contextmanager
    def _storage(self) -> Iterator[dict[str, str]]:
        """Environment that reaches the store, while it lasts."""
        data = json.loads(
            self._kubectl("get", "secret", f"{RELEASE}-store", "-n", self.namespace, "-o", "json")
        )["data"]
        command = ["kubectl", "port-forward", "-n", self.namespace, f"service/{RELEASE}-storage", ":9000"]
        with subprocess.Popen(
            command,
            env={**os.environ, **self._env},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            try:
                assert process.stdout is not None
                first = process.stdout.readline()
                if "Forwarding" not in first:
                    raise LocalError(f"the store cannot be reached: {first.strip()}")
                port = first.split("->")[0].strip().rpartition(":")[2]
                yield {
                    "CONVEYOR_S3_ENDPOINT": f"http://127.0.0.1:{port}",
                    "AWS_ACCESS_KEY_ID": base64.b64decode(data["access-key"]).decode(),
                    "AWS_SECRET_ACCESS_KEY": base64.b64decode(data["secret-key"]).decode(),
                }
            finally:
                process.terminate()

    def _kubectl(self, *arguments: str) -> str:
        return ask("kubectl", *arguments, env=self._env)

    def _conveyor(self, *arguments: str, env: Mapping[str, str] | None = None) -> None:
        call(
            sys.executable,
            "-m",
            "pipelines.cli",
            *arguments,
            env={**self._env, **(env or {}), "PYTHONPATH": str(ROOT)},
        )


def _parts(image: str) -> dict[str, str]:
    repository, _, tag = image.rpartition(":")
    return {"repository": repository, "tag": tag}
