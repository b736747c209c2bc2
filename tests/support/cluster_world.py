"""A namespace of a real cluster, as the tests of the launcher want it: `restricted`, accounts, MinIO, a few images."""

import base64
import io
import json
import os
import secrets
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.cluster.pods import container_security, pod_security
from components.cluster.rbac import RULES, role_rules
from support.images import make_image_folder
from support.small_pipeline import SMALL, Ended, conveyor

Object = dict[str, Any]

IMAGE = os.environ.get("CONVEYOR_TEST_IMAGE", "conveyor:cpu")
MINIO = "minio/minio:local"
READY_S = 240
LOOK_S = 90
"""For all that is asked of a namespace where a test has failed."""


def why_no_cluster() -> str | None:
    """The reason why cluster tests cannot run here; None where they can."""
    if not os.environ.get("KUBECONFIG"):
        return "KUBECONFIG is not set (../shared/cluster/cluster up prints it; kind export kubeconfig)"
    try:
        done = subprocess.run(
            ["kubectl", "version", "--request-timeout=30s"], capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        return "there is no kubectl on the PATH"
    return None if done.returncode == 0 else f"the cluster does not answer: {done.stderr.strip()[:200]}"


def kubectl(*arguments: str, stdin: str | None = None, check: bool = True) -> str:
    """Run kubectl and return what it printed."""
    done = subprocess.run(["kubectl", *arguments], input=stdin, capture_output=True, text=True, check=False)
    if check and done.returncode != 0:
        raise AssertionError(f"kubectl {' '.join(arguments)}: {done.stderr}")
    return done.stdout


@dataclass
class World:
    """One namespace with everything in it that a run needs."""

    namespace: str
    access_key: str = field(default_factory=lambda: secrets.token_hex(8))
    secret_key: str = field(default_factory=lambda: secrets.token_hex(20))
    logs: list[Path] = field(default_factory=list)
    """What commands on this machine say of what they do in it, for who looks at a failure."""

    def kubectl(self, *arguments: str, stdin: str | None = None, check: bool = True) -> str:
        return kubectl("-n", self.namespace, *arguments, stdin=stdin, check=check)

    def apply(self, *objects: Object) -> None:
        document = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
        self.kubectl("apply", "-f", "-", stdin=json.dumps(document))

    def get(self, kind: str, selector: str = "") -> list[Object]:
        found: list[Object] = json.loads(self.kubectl("get", kind, "-l", selector, "-o", "json"))["items"]
        return found

    def config(self, folder: Path, name: str = "config", **sections: Mapping[str, Any]) -> Path:
        """A config file for a small run in this namespace; `sections` are merged into it, one level deep."""
        whole: dict[str, Any] = {
            **SMALL,
            "store": {"url": "s3://store/tests", "endpoint": f"http://minio.{self.namespace}:9000"},
            "kubernetes": self.kubernetes(),
        }
        whole["ingest"] = {**whole["ingest"], "source": "s3://images/small"}
        for section, values in sections.items():
            whole[section] = {**whole.get(section, {}), **values}
        path = folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump(whole))
        return path

    def kubernetes(self, **settings: Any) -> dict[str, Any]:
        """The section `kubernetes`: small pods in this namespace; `resources` are added to ours."""
        resources = {
            "default": {"cpu": "10m", "memory": "2Gi"},
            "launcher": {"cpu": "10m", "memory": "1Gi"},
            **settings.pop("resources", {}),
        }
        ours = {"image": IMAGE, "namespace": self.namespace, "start_timeout_s": 300, "resources": resources}
        return {**ours, **settings}

    def conveyor(self, *arguments: str | Path, cwd: Path, timeout_s: float = 550) -> Ended:
        try:
            return conveyor(*arguments, cwd=cwd, env={"CONVEYOR_LOG_FORMAT": "lines"}, timeout_s=timeout_s)
        except subprocess.TimeoutExpired as error:
            said = (error.stderr or b"").decode(errors="replace")  # bytes, though text was asked for
            raise AssertionError(f"no end within {timeout_s:.0f} s:\n{said[-6000:]}") from error

    @contextmanager
    def storage(self) -> Iterator[Any]:
        """A boto3 client of the MinIO in the cluster."""
        import boto3
        from botocore.config import Config

        with self.forwarded("service/minio", 9000) as port:
            yield boto3.client(
                "s3",
                endpoint_url=f"http://127.0.0.1:{port}",
                aws_access_key_id=self.access_key,
                aws_secret_access_key=self.secret_key,
                region_name="us-east-1",
                config=Config(retries={"max_attempts": 10, "mode": "standard"}),
            )

    @contextmanager
    def forwarded(self, target: str, port: int) -> Iterator[int]:
        """A local port that leads to the cluster's: one that was free as kubectl took it."""
        command = ["kubectl", "-n", self.namespace, "port-forward", target, f":{port}"]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process:
            try:
                assert process.stdout is not None
                first = process.stdout.readline()
                assert "Forwarding" in first, first
                yield int(first.split("->")[0].strip().rpartition(":")[2])
            finally:
                process.terminate()


def make_namespace(prefix: str) -> World:
    """An empty one in which `restricted` is enforced, with the accounts and what they may do."""
    world = World(f"test-{prefix}-{secrets.token_hex(3)}")
    marks = {"pod-security.kubernetes.io/enforce": "restricted", "conveyor-test": "1"}
    kubectl(
        "create",
        "-f",
        "-",
        stdin=json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Namespace",
                "metadata": {"name": world.namespace, "labels": marks},
            }
        ),
    )
    world.apply(*accounts(world.namespace), credentials(world.access_key, world.secret_key))
    return world


def delete_namespace(world: World) -> None:
    kubectl("delete", "namespace", world.namespace, "--wait=false", "--ignore-not-found")


def accounts(namespace: str, names: Sequence[str] = ("conveyor-step", "conveyor-launcher")) -> list[Object]:
    """ServiceAccounts, and the Roles of those that need one."""
    found: list[Object] = []
    for name in names:
        found.append({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}})
        if not RULES[name]:
            continue
        rbac = "rbac.authorization.k8s.io"
        found.append(
            {
                "apiVersion": f"{rbac}/v1",
                "kind": "Role",
                "metadata": {"name": name},
                "rules": role_rules(name),
            }
        )
        subject = {"kind": "ServiceAccount", "name": name, "namespace": namespace}
        found.append(
            {
                "apiVersion": f"{rbac}/v1",
                "kind": "RoleBinding",
                "metadata": {"name": name},
                "roleRef": {"apiGroup": rbac, "kind": "Role", "name": name},
                "subjects": [subject],
            }
        )
    return found


def credentials(access: str, secret: str, name: str = "conveyor-store") -> Object:
    data = {"access-key": access, "secret-key": secret}
    encoded = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": encoded}


def start_minio(world: World) -> None:
    """One pod with the namespace's credentials, its data on an emptyDir."""
    marks = {"app": "minio"}
    env = [
        {"name": name, "valueFrom": {"secretKeyRef": {"name": "conveyor-store", "key": key}}}
        for name, key in (("MINIO_ROOT_USER", "access-key"), ("MINIO_ROOT_PASSWORD", "secret-key"))
    ]
    container = {
        "name": "minio",
        "image": MINIO,
        "imagePullPolicy": "IfNotPresent",
        "args": ["server", "/data", "--address", ":9000"],
        "env": env,
        "readinessProbe": {"httpGet": {"path": "/minio/health/ready", "port": 9000}, "periodSeconds": 1},
        "resources": {"requests": {"cpu": "10m", "memory": "256Mi"}, "limits": {"memory": "1Gi"}},
        "securityContext": container_security(),
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    }
    pod = {
        "automountServiceAccountToken": False,
        "securityContext": pod_security(),
        "containers": [container],
        "volumes": [{"name": "data", "emptyDir": {}}],
    }
    world.apply(
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "minio"},
            "spec": {
                "selector": {"matchLabels": marks},
                "template": {"metadata": {"labels": marks}, "spec": pod},
            },
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "minio"},
            "spec": {"selector": marks, "ports": [{"port": 9000}]},
        },
    )
    with explained(world):
        world.kubectl("rollout", "status", "deployment/minio", f"--timeout={READY_S}s")


def fill(world: World, folder: Path, *, num_per_class: int = 24) -> None:
    """A bucket for the store, and one with a few images of three classes."""
    make_image_folder(folder, per_class=num_per_class, size=(28, 28), fmt="png")
    with world.storage() as client:
        for bucket in ("store", "images"):
            client.create_bucket(Bucket=bucket)
        for path in sorted(folder.rglob("*.*")):
            client.put_object(
                Bucket="images", Key=f"small/{path.relative_to(folder)}", Body=io.BytesIO(path.read_bytes())
            )


def wait_until(what: str, holds: Any, *, timeout_s: float = 240, every_s: float = 0.3) -> Any:
    """Ask until the answer is true, and return it."""
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        found = holds()
        if found:
            return found
        time.sleep(every_s)
    raise AssertionError(f"{what}: not within {timeout_s:.0f} s")


def look_at(world: World) -> str:
    """Pods, events, and the end of each log: what somebody asks for first. Raises nothing: it is asked for where
    something is wrong, which may be the cluster; nor, then, does it take longer than `LOOK_S`."""
    told: list[str] = []
    try:
        told.extend(_look(world, time.monotonic() + LOOK_S))
    # The second: the test's own time can end here as well.
    except (Exception, pytest.fail.Exception) as error:  # noqa: BLE001
        told.append(f"no more can be told: {error!r}")
    return "\n".join(told)


def _look(world: World, end: float) -> Iterator[str]:
    def ask(*arguments: str) -> str:
        left = end - time.monotonic()
        if left < 1:
            return "(not asked: the time for it is over)"
        command = ["kubectl", "-n", world.namespace, *arguments, "--request-timeout=20s"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=left)
        except (subprocess.TimeoutExpired, OSError, UnicodeDecodeError) as error:
            return f"({error})"
        return done.stdout + done.stderr

    for path in world.logs:
        yield f"$ tail {path}\n{path.read_text(errors='replace')[-6000:] if path.exists() else ''}"
    asked = [
        ("get", "jobs,pods", "-o", "wide"),
        ("get", "mpijobs", "--ignore-not-found"),
        ("get", "events", "--sort-by=.lastTimestamp"),
    ]
    pods = ask("get", "pods", "-o", "name", "--ignore-not-found").split()
    names = [pod for pod in pods if pod.startswith("pod/")]
    asked += [("logs", pod, "--all-containers", "--prefix", "--timestamps", "--tail=15") for pod in names]
    for each in asked:
        yield f"$ kubectl {' '.join(each)}\n{ask(*each)}"


@contextmanager
def explained(world: World) -> Iterator[None]:
    """What fails in the block, which is about to take the namespace away, is told with what was there (`look_at`)."""
    try:
        yield
    except (Exception, pytest.fail.Exception) as error:
        error.add_note(f"namespace {world.namespace}\n{look_at(world)}")
        raise
