"""The pod of a step: admitted where `restricted` is enforced, /tmp its only writable place."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from components.cluster.config import KubernetesConfig, Security, placement_for, quantity, resources_for
from components.cluster.names import CONFIG_FOLDER, CONFIG_VOLUME, CONTAINER, ISTIO

Object = dict[str, Any]

IMAGE_USER = Security()
"""The image's user and group."""
SECRET_KEYS = {
    "AWS_ACCESS_KEY_ID": "access-key",
    "AWS_SECRET_ACCESS_KEY": "secret-key",
    "AWS_SESSION_TOKEN": "session-token",
}
OPTIONAL_KEYS = ("session-token",)
WEBHOOK = "conveyor-webhook"
"""A Secret that may be there: the webhook that hears how runs end, and what signs its news."""
WEBHOOK_KEYS = {"CONVEYOR_WEBHOOK_URL": "url", "CONVEYOR_WEBHOOK_SECRET": "secret"}
GPU = "nvidia.com/gpu"
DISK_REQUEST = "100Mi"
"""What is reserved of a node's disk; all that a pod may use, where that is less."""


def cores(settings: KubernetesConfig, step: str) -> int:
    """Cores that a pod of the step counts on: whole ones, the same on every node."""
    given = resources_for(settings, step)
    return max(1, math.ceil(quantity(given.cpu_limit or given.cpu or 1)))


def placement_env(settings: KubernetesConfig, step: str) -> dict[str, str]:
    """Environment that results depend on: who computes a record's key needs it as the pod has it."""
    return {
        "CONVEYOR_CORES": str(cores(settings, step)),
        "CONVEYOR_GPUS": str(resources_for(settings, step).gpus or 0),
    }


def pod_template(
    step: str,
    args: Sequence[str],
    settings: KubernetesConfig,
    *,
    labels: Mapping[str, str],
    config_map: str | None,
    env: Mapping[str, str] | None = None,
    command: Sequence[str] | None = None,
    service_account: str | None = None,
    token: bool = False,
    shared_memory: bool = False,
    restart_policy: str | None = "Never",
    image: str | None = None,
    ports: Mapping[str, int] | None = None,
    sized_as: str | None = None,
) -> Object:
    """A pod template. `config_map` is mounted at /etc/conveyor; `token` mounts the account's token (the API is used).

    `command` replaces the image's entry point; `restart_policy` None leaves it to the object around the template.
    `sized_as` is the step whose resources and placement the pod gets, where it is not `step` itself.
    """
    size = sized_as or step
    volumes, mounts = _volumes(size, settings, config_map, shared_memory)
    container: Object = {
        "name": CONTAINER,
        "image": image or settings.image,
        "imagePullPolicy": settings.image_pull_policy,
        "args": list(args),
        "env": container_env(step, settings, env or {}),
        "resources": resources(settings, size),
        "securityContext": container_security(),
        "volumeMounts": mounts,
        # Where a pod dies without a word (killed for memory), the end of its log is the word.
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }
    if command is not None:
        container["command"] = list(command)
    if ports:
        container["ports"] = [{"name": name, "containerPort": port} for name, port in ports.items()]
    spec: Object = {
        "serviceAccountName": service_account or settings.service_account,
        "automountServiceAccountToken": token,
        "enableServiceLinks": False,
        "securityContext": pod_security(settings.security),
        "terminationGracePeriodSeconds": settings.grace_s,
        "containers": [container],
        "volumes": volumes,
    }
    if restart_policy is not None:
        spec["restartPolicy"] = restart_policy
    spec |= _placement(settings, size)
    metadata: Object = {"labels": {**labels, ISTIO: "false"}}
    if settings.annotations:
        metadata["annotations"] = dict(settings.annotations)
    return {"metadata": metadata, "spec": spec}


def pod_security(security: Security = IMAGE_USER) -> Object:
    """Security context of a pod under the standard `restricted`; what is null is the platform's to choose."""
    numbers = {"runAsUser": security.user, "runAsGroup": security.group, "fsGroup": security.fs_group}
    return {
        "runAsNonRoot": True,
        **{name: number for name, number in numbers.items() if number is not None},
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def container_security() -> Object:
    """Security context of a container under the standard `restricted`, with a read-only root besides."""
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def resources(settings: KubernetesConfig, step: str) -> Object:
    """Requests and limits; memory is both, so that a node never promises what it does not have."""
    given = resources_for(settings, step)
    assert given.disk is not None  # resources_for leaves nothing open
    # The API server refuses a request above its limit.
    disk = min(DISK_REQUEST, given.disk, key=quantity)
    requests: Object = {"cpu": str(given.cpu), "memory": given.memory, "ephemeral-storage": disk}
    limits: Object = {"memory": given.memory, "ephemeral-storage": given.disk}
    if given.cpu_limit is not None:
        limits["cpu"] = str(given.cpu_limit)
    if given.gpus:
        requests[GPU] = limits[GPU] = given.gpus
    return {"requests": requests, "limits": limits}


def container_env(step: str, settings: KubernetesConfig, more: Mapping[str, str]) -> list[Object]:
    """Plain variables, then the store's credentials from the Secret (those of pod identity come by themselves)."""
    plain = {**placement_env(settings, step), **settings.env, **more}
    found: list[Object] = [{"name": name, "value": value} for name, value in plain.items()]
    if settings.secret:
        for name, key in SECRET_KEYS.items():
            source: Object = {"name": settings.secret, "key": key}
            if key in OPTIONAL_KEYS:
                source["optional"] = True
            found.append({"name": name, "valueFrom": {"secretKeyRef": source}})
    return found


def webhook_env() -> list[Object]:
    """Where to tell how a run ended, for the pod that knows: empty where there is no such Secret."""
    return [
        {"name": name, "valueFrom": {"secretKeyRef": {"name": WEBHOOK, "key": key, "optional": True}}}
        for name, key in WEBHOOK_KEYS.items()
    ]


def _volumes(
    step: str, settings: KubernetesConfig, config_map: str | None, shared_memory: bool
) -> tuple[list[Object], list[Object]]:
    volumes: list[Object] = [{"name": "tmp", "emptyDir": {"sizeLimit": resources_for(settings, step).disk}}]
    mounts: list[Object] = [{"name": "tmp", "mountPath": "/tmp"}]  # noqa: S108 - the pod's own
    if config_map is not None:
        volumes.append({"name": CONFIG_VOLUME, "configMap": {"name": config_map}})
        mounts.append({"name": CONFIG_VOLUME, "mountPath": CONFIG_FOLDER, "readOnly": True})
    if shared_memory:
        volumes.append({"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": settings.shm_size}})
        mounts.append({"name": "shm", "mountPath": "/dev/shm"})  # noqa: S108 - the pod's own
    for mount in settings.mounts:
        volumes.append({"name": mount.name, **_source(mount.claim, mount.secret, mount.config_map)})
        mounts.append({"name": mount.name, "mountPath": mount.path, "readOnly": mount.read_only})
    return volumes, mounts


def _source(claim: str | None, secret: str | None, config_map: str | None) -> Object:
    if claim is not None:
        return {"persistentVolumeClaim": {"claimName": claim}}
    if secret is not None:
        return {"secret": {"secretName": secret}}
    return {"configMap": {"name": config_map}}


def _placement(settings: KubernetesConfig, step: str) -> Object:
    placed = placement_for(settings, step)
    found: Object = {}
    if settings.image_pull_secrets:
        found["imagePullSecrets"] = [{"name": name} for name in settings.image_pull_secrets]
    if placed.node_selector:
        found["nodeSelector"] = dict(placed.node_selector)
    if placed.tolerations:
        found["tolerations"] = [dict(each) for each in placed.tolerations]
    if placed.affinity:
        found["affinity"] = placed.affinity
    if placed.priority_class:
        found["priorityClassName"] = placed.priority_class
    if placed.runtime_class:
        found["runtimeClassName"] = placed.runtime_class
    return found
