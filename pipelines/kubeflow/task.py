"""How one task's pod runs: everything that kfp and kfp-kubernetes can set of `kubernetes` in the config."""

import json
import re
from typing import Any

from kfp import kubernetes as k8s

from components.cluster.config import (
    KubernetesConfig,
    Mount,
    placement_for,
    quantity,
    resources_for,
)
from components.cluster.names import labels
from components.cluster.pods import GPU, SECRET_KEYS, placement_env
from components.common.kubeflow import STOP
from components.train.kubeflow import FOLLOWS_ONLY

TRAIN = "train"
LAUNCHER = "launcher"
"""Resources and placement of a pod that only starts and follows others."""
REPORT = "report"
"""The last task, which runs however the others ended."""
WEBHOOK = "conveyor-webhook"
WEBHOOK_KEYS = {"url": "CONVEYOR_WEBHOOK_URL", "secret": "CONVEYOR_WEBHOOK_SECRET"}
MEMORY = re.compile(r"\d+([KMGTPE]i?)?")  # what kfp accepts; Kubernetes takes more
PAUSE_S = 30
"""Before the second try of a task; twice as long before each further one."""
STOP_COMMAND = "workflows.argoproj.io/kill-cmd-main"
"""Annotation: what Argo runs in a task's container when the run is terminated, with SIGTERM first, with SIGKILL later."""
LONGEST_S = 30 * 86400
"""Seconds in which a task without a time limit may be tried again."""


def place(task: Any, step: str, settings: KubernetesConfig) -> None:
    """Image, environment, credentials, resources, placement, retries and limits of the pod of `step`."""
    # A step's own key decides what is reused: it sees a source that changed behind the same parameters, Kubeflow's
    # key (image, command, arguments) does not.
    task.set_caching_options(False)
    if settings.retries:
        # Every step may be repeated: its record is published once. KFP sets no retryPolicy, so Argo repeats a task whose
        # container failed, not one whose pod is gone (deleted, or lost with its node); unless the installation has a
        # default of its own, as that of 2.17 has: then it is the other way round.
        task.set_retry(
            settings.retries,
            backoff_duration=f"{PAUSE_S}s",
            backoff_factor=2.0,
            backoff_max_duration=f"{retry_time_s(settings)}s",
        )
    task.set_container_image(settings.image)
    _set_environment(task, step, settings)
    _set_resources(task, step, settings)
    _set_volumes(task, step, settings)
    _set_placement(task, step, settings)
    k8s.set_security_context(
        task,
        run_as_user=settings.security.user,
        run_as_group=settings.security.group,
        run_as_non_root=True,
    )
    if settings.deadline_s is not None:
        k8s.set_timeout(task, settings.deadline_s)


def retry_time_s(settings: KubernetesConfig) -> int:
    """Seconds from a task's first start in which it is tried again: enough for all tries and the pauses between them.

    It is no cap of the pauses (Argo has none here): when it has passed, a running try is ended and no other begins.
    """
    if settings.deadline_s is None:
        return LONGEST_S
    pauses = PAUSE_S * (2**settings.retries - 1)
    return int((settings.retries + 1) * settings.deadline_s + min(pauses, LONGEST_S))


def follows_only(step: str, settings: KubernetesConfig) -> bool:
    """Whether the step's pod does nothing but launch pods that do the work, and follow them."""
    return step == TRAIN and settings.training.pods > 1


def _sized_as(step: str, settings: KubernetesConfig) -> str:
    # A pod that only follows would hold a training pod's memory, GPUs and place for nothing.
    return LAUNCHER if follows_only(step, settings) else step


def not_settable(settings: KubernetesConfig) -> list[str]:
    """Settings that are given and that a Kubeflow step's pod cannot have: names, for a warning."""
    found = []
    if settings.priority_class is not None:
        found.append("priority_class")
    if settings.queue is not None:
        found.append("queue")
    found += [f"affinity.{kind}" for kind in settings.affinity or {} if kind != "nodeAffinity"]
    for step, placed in settings.placement.items():
        for name in ("priority_class", "runtime_class"):
            if getattr(placed, name):
                found.append(f"placement.{step}.{name}")
        found += [
            f"placement.{step}.affinity.{kind}" for kind in placed.affinity or {} if kind != "nodeAffinity"
        ]
    found += [f"mounts: {m.name} is mounted read-only" for m in settings.mounts if m.claim and m.read_only]
    return found


def _set_environment(task: Any, step: str, settings: KubernetesConfig) -> None:
    plain = {
        "PYTHONUNBUFFERED": "1",
        "CONVEYOR_LOG_FORMAT": "json",
        # Training in several pods starts those from the same image.
        "CONVEYOR_IMAGE": settings.image,
        **placement_env(settings, step),
        **({FOLLOWS_ONLY: "1"} if follows_only(step, settings) else {}),
        **settings.env,
    }
    for name, value in plain.items():
        task.set_env_variable(name, value)
    if settings.secret:
        keys = {key: name for name, key in SECRET_KEYS.items()}
        k8s.use_secret_as_env(task, settings.secret, keys, optional=True)
    if step == REPORT:
        k8s.use_secret_as_env(task, WEBHOOK, WEBHOOK_KEYS, optional=True)


def _set_resources(task: Any, step: str, settings: KubernetesConfig) -> None:
    given = resources_for(settings, _sized_as(step, settings))
    task.set_cpu_request(str(given.cpu))
    if given.cpu_limit is not None:
        task.set_cpu_limit(str(given.cpu_limit))
    memory = str(given.memory)
    if not MEMORY.fullmatch(memory):
        memory = str(round(quantity(memory)))
    # Both, so that a node never promises what it does not have.
    task.set_memory_request(memory)
    task.set_memory_limit(memory)
    if given.gpus:
        task.set_accelerator_type(GPU)
        task.set_accelerator_limit(given.gpus)


def _set_volumes(task: Any, step: str, settings: KubernetesConfig) -> None:
    disk = resources_for(settings, _sized_as(step, settings)).disk
    k8s.empty_dir_mount(task, "tmp", "/tmp", size_limit=disk)  # noqa: S108 - the pod's own
    if step == TRAIN and not follows_only(step, settings):
        k8s.empty_dir_mount(task, "shm", "/dev/shm", medium="Memory", size_limit=settings.shm_size)  # noqa: S108
    for mount in settings.mounts:
        _mount(task, mount)


def _mount(task: Any, mount: Mount) -> None:
    if mount.claim is not None:
        k8s.mount_pvc(task, mount.claim, mount.path)
    elif mount.secret is not None:
        k8s.use_secret_as_volume(task, mount.secret, mount.path)
    else:
        k8s.use_config_map_as_volume(task, mount.config_map, mount.path)


def _set_placement(task: Any, step: str, settings: KubernetesConfig) -> None:
    k8s.set_image_pull_policy(task, settings.image_pull_policy)
    if settings.image_pull_secrets:
        k8s.set_image_pull_secrets(task, list(settings.image_pull_secrets))
    for name, value in labels(step, step=step, more=settings.labels).items():
        k8s.add_pod_label(task, name, value)
    for name, value in {STOP_COMMAND: json.dumps(STOP), **settings.annotations}.items():
        k8s.add_pod_annotation(task, name, value)
    placed = placement_for(settings, _sized_as(step, settings))
    for name, value in (placed.node_selector or {}).items():
        k8s.add_node_selector(task, name, value)
    for toleration in placed.tolerations or ():
        k8s.add_toleration(
            task,
            key=toleration.get("key"),
            operator=toleration.get("operator"),
            value=toleration.get("value"),
            effect=toleration.get("effect"),
            toleration_seconds=toleration.get("tolerationSeconds"),
        )
    node_affinity = (placed.affinity or {}).get("nodeAffinity")
    if node_affinity:
        k8s.add_node_affinity_json(task, node_affinity)
