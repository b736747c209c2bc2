"""Tasks of a compiled pipeline as pods of a real cluster, as Kubeflow's backend makes them from the compiled file.

The backend cannot be had on a test machine. What it makes of a task's executor is published (its compiler and driver):
image, command, environment and resources from the pipeline's document, the rest from the platform's document, and a
security context of its own. kfp.local chains the tasks and fills in their commands.
"""

import base64
import io
import json
import subprocess
import tarfile
import uuid
from pathlib import Path
from typing import Any

import yaml
from kfp.local import status, task_handler_interface

from support.cluster_world import World, wait_until

Object = dict[str, Any]
MARK = "=====OUTPUTS====="

# Kubeflow's launcher fetches a task's inputs and stores its outputs; here they come and go with the pod itself.
WRAPPER = """
import base64, io, os, subprocess, sys, tarfile
tarfile.open(fileobj=io.BytesIO(base64.b64decode(os.environ.pop("INPUTS")))).extractall("/")
root = os.environ.pop("ROOT")
code = subprocess.call(sys.argv[1:])
data = io.BytesIO()
with tarfile.open(fileobj=data, mode="w:gz") as tar:
    tar.add(root)
print("\\nMARK" + base64.b64encode(data.getvalue()).decode(), flush=True)
sys.exit(code)
""".replace("MARK", MARK)


def handler_of(
    world: World, compiled: Path, service_account: str
) -> type[task_handler_interface.ITaskHandler]:
    """A task handler for kfp.local that runs each task as a pod in `world`, as the compiled file says."""
    documents = list(yaml.safe_load_all(compiled.read_text()))
    executors = documents[0]["deploymentSpec"]["executors"]
    platform = documents[1]["platforms"]["kubernetes"]["deploymentSpec"]["executors"]

    class Handler(task_handler_interface.ITaskHandler):  # type: ignore[misc]
        """One task."""

        def __init__(
            self, image: str, full_command: list[str], pipeline_root: str, runner: Any, env_vars: Any = None
        ) -> None:
            self.command, self.root = full_command, Path(pipeline_root)
            self.name = full_command[full_command.index("--function_to_execute") + 1]

        def run(self) -> Any:
            label = f"exec-{self.name}"
            pod = make_pod(self.name, executors[label]["container"], platform[label], service_account)
            main = pod["spec"]["containers"][0]
            main["command"] = ["python3", "-c", WRAPPER, *self.command]
            main["env"] += [
                {"name": "INPUTS", "value": pack(self.root)},
                {"name": "ROOT", "value": str(self.root)},
            ]
            return run_pod(world, pod)

    return Handler


def make_pod(name: str, container: Object, platform: Object, service_account: str) -> Object:
    """The pod of an executor."""
    resources = container["resources"]
    accelerator = resources.get("accelerator")
    limits = {"memory": resources["resourceMemoryLimit"]}
    if accelerator:
        limits[accelerator["resourceType"]] = accelerator["resourceCount"]
    env: list[Object] = [{"name": each["name"], "value": each["value"]} for each in container["env"]]
    env.append({"name": "KFP_POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}})
    for secret in platform.get("secretAsEnv", ()):
        for each in secret["keyToEnv"]:
            source = {"name": secret["secretName"], "key": each["secretKey"], "optional": secret["optional"]}
            env.append({"name": each["envVar"], "valueFrom": {"secretKeyRef": source}})
    # The backend's own: it drops what `restricted` wants dropped, and leaves the root writable.
    security = {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
        "runAsUser": int(platform["securityContext"]["runAsUser"]),
        "runAsGroup": int(platform["securityContext"]["runAsGroup"]),
        "runAsNonRoot": platform["securityContext"]["runAsNonRoot"],
    }
    volumes, mounts = [], []
    for each in platform.get("emptyDirMounts", ()):
        source = {
            key: each[field]
            for key, field in (("medium", "medium"), ("sizeLimit", "sizeLimit"))
            if field in each
        }
        volumes.append({"name": each["volumeName"], "emptyDir": source})
        mounts.append({"name": each["volumeName"], "mountPath": each["mountPath"]})
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            # As Argo's names are: longer than a host name may be.
            "name": f"kfp-{name}-metadata-1-4-retry-system-container-impl-{uuid.uuid4().hex}",
            "labels": platform["podMetadata"]["labels"],
            "annotations": platform["podMetadata"]["annotations"],
        },
        "spec": {
            "restartPolicy": "Never",
            "serviceAccountName": service_account,
            "activeDeadlineSeconds": int(platform["activeDeadlineSeconds"]),
            "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [
                {
                    "name": "main",
                    "image": container["image"],
                    "imagePullPolicy": platform["imagePullPolicy"],
                    "env": env,
                    "resources": {
                        "requests": {
                            "cpu": resources["resourceCpuRequest"],
                            "memory": resources["resourceMemoryRequest"],
                        },
                        "limits": limits,
                    },
                    "securityContext": security,
                    "volumeMounts": mounts,
                }
            ],
            "volumes": volumes,
        },
    }


def run_pod(world: World, pod: Object) -> Any:
    """Make the pod, wait for its end, unpack what it left."""
    name = world.kubectl("create", "-f", "-", "-o", "name", stdin=json.dumps(pod)).strip()

    def ended() -> str | None:
        phase = json.loads(world.kubectl("get", name, "-o", "json"))["status"]["phase"]
        return phase if phase in {"Succeeded", "Failed"} else None

    phase = wait_until(f"{name} ends", ended, timeout_s=400)
    log = world.kubectl("logs", name)
    said, _, packed = log.partition(MARK)
    print(said)
    if packed:
        with tarfile.open(fileobj=io.BytesIO(base64.b64decode(packed))) as tar:
            tar.extractall("/", filter="data")
    return status.Status.SUCCESS if phase == "Succeeded" else status.Status.FAILURE


def pack(root: Path) -> str:
    """The small files that passed between the tasks so far; pages stay, they are nobody's input."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as tar:
        for path in sorted(root.rglob("*")):
            if path.is_dir() or path.name == "reference":
                tar.add(path, recursive=False)
    return base64.b64encode(data.getvalue()).decode()


def describe(world: World) -> str:
    """What the namespace's pods do, for a failure's message."""
    done = subprocess.run(
        ["kubectl", "-n", world.namespace, "get", "pods,jobs,events"],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout
