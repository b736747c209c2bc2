"""Settings of everything that runs on Kubernetes.

Only what a step counts on enters its key: its pod's cores and GPUs (`pods.placement_env`), and how many pods train together.
"""

import re
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from components.common.config import StepConfig

QUANTITY = re.compile(r"\d+(\.\d+)?(m|k|Ki|M|Mi|G|Gi|T|Ti)?")
UNITS = {
    "": 1.0,
    "m": 1e-3,
    "k": 1e3,
    "Ki": 2.0**10,
    "M": 1e6,
    "Mi": 2.0**20,
    "G": 1e9,
    "Gi": 2.0**30,
    "T": 1e12,
    "Ti": 2.0**40,
}


class Resources(StepConfig):
    """What one pod of a step gets; what is unset is taken from `default`, then from what fits the example."""

    cpu: str | int | float | None = None
    """Cores that are reserved, such as 2 or 500m. Rounded up, they are the cores that the step counts on where `cpu_limit`
    is unset, wherever it lands: thread counts, on which the last bits of training depend, are the same on every node."""
    cpu_limit: str | int | float | None = None
    """Cores that it may use at most. Unset: no limit (a limit slows every step; quotas may ask for one). Rounded up, they
    are what the step counts on: a limit of another number of whole cores than `cpu` makes training's result anew."""
    memory: str | None = None
    """Reserved, and the limit as well: 4Gi. A pod that needs more is killed."""
    disk: str | None = None
    """Limit of /tmp, the only place that a pod can write to: 10Gi."""
    gpus: int | None = Field(default=None, ge=0)
    """Whole GPUs (`nvidia.com/gpu`)."""

    @field_validator("cpu", "cpu_limit", "memory", "disk")
    @classmethod
    def _is_quantity(cls, value: str | float | None) -> str | int | float | None:
        if value is not None and not QUANTITY.fullmatch(str(value)):
            raise ValueError("a Kubernetes quantity, such as 500m, 2, 512Mi or 4Gi")
        return value

    @model_validator(mode="after")
    def _reserves_what_it_may_use(self) -> "Resources":
        """Kubernetes refuses a pod that reserves more; what comes from a layer beneath is cut in `resources_for`."""
        if (
            self.cpu is not None
            and self.cpu_limit is not None
            and quantity(self.cpu) > quantity(self.cpu_limit)
        ):
            raise ValueError(f"cpu is what is reserved, at most cpu_limit ({self.cpu_limit}), not {self.cpu}")
        return self


class Placement(StepConfig):
    """Where the pods of a step may run. What is unset is taken from the layer beneath; an empty value takes it away."""

    node_selector: dict[str, str] | None = None
    """Labels that a node must have."""
    tolerations: tuple[dict[str, Any], ...] | None = None
    """Taints that are no obstacle, as Kubernetes writes them."""
    affinity: dict[str, Any] | None = None
    """Affinity, as Kubernetes writes it."""
    priority_class: str | None = None
    """PriorityClass."""
    runtime_class: str | None = None
    """RuntimeClass, such as nvidia."""


class Security(StepConfig):
    """The user of every pod. null leaves a number to the platform, as OpenShift's `restricted-v2` wants it."""

    user: int | None = Field(default=10001, ge=1)
    """Number of the user, never root. The default is the image's own; MPIJobs need one that the image knows (ssh asks)."""
    group: int | None = Field(default=10001, ge=0)
    """Number of the group."""
    fs_group: int | None = Field(default=10001, ge=0)
    """Group that volumes are given to."""


class Mount(StepConfig):
    """A volume of yours that every step's pod mounts, such as a claim with the source images."""

    name: str = Field(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")
    """Name of the volume in the pod."""
    path: str = Field(pattern=r"^/.*")
    """Where it is mounted."""
    claim: str | None = None
    """A PersistentVolumeClaim."""
    secret: str | None = None
    """A Secret: each key becomes a file."""
    config_map: str | None = None
    """A ConfigMap: each key becomes a file."""
    read_only: bool = True
    """Mounted for reading only."""

    @model_validator(mode="after")
    def _one_source(self) -> "Mount":
        if sum(value is not None for value in (self.claim, self.secret, self.config_map)) != 1:
            raise ValueError("exactly one of claim, secret and config_map")
        return self


class TrainingConfig(StepConfig):
    """How training is spread over pods."""

    kind: Literal["indexed-job", "mpi-job"] = "indexed-job"
    """`indexed-job` needs no operator and no ssh; `mpi-job` is an MPIJob v2beta1 of the MPI operator."""
    pods: int = Field(default=1, ge=1, le=256)
    """Pods that train together, each with one worker, or with one for each of its GPUs. With 1, training is a step like
    the others, and `train.workers` says how many processes its pod has."""
    min_pods: int | None = Field(default=None, ge=1, le=256)
    """mpi-job only: goes on with as few as this (elastic). Unset: all of them, always."""
    max_attempts: int = Field(default=10, ge=1, le=1000)
    """How often training begins anew, from the newest checkpoint, after one of its pods died."""
    port: int = Field(default=29400, ge=1024, le=65535)
    """Where rank 0 is met. Gloo itself uses ephemeral ports among the pods of one training."""
    ssh_port: int = Field(default=2222, ge=1024, le=65535)
    """mpi-job only: where the workers' sshd listens, and where their launcher reaches it."""

    @model_validator(mode="after")
    def _possible(self) -> "TrainingConfig":
        if self.min_pods is not None and self.kind != "mpi-job":
            raise ValueError(
                "min_pods: only with kind: mpi-job (a training must be elastic to go on with fewer)"
            )
        if self.min_pods is not None and self.min_pods > self.pods:
            raise ValueError("min_pods: at most pods")
        return self


class KubernetesConfig(StepConfig):
    """Steps as pods: image, accounts, resources, placement, limits. Used by `--on kubernetes`, manifests and Kubeflow."""

    image: str = Field(default="conveyor:latest", min_length=1)
    """The image of all pods."""
    image_pull_policy: Literal["IfNotPresent", "Always", "Never"] = "IfNotPresent"
    """When a node asks the registry."""
    image_pull_secrets: tuple[str, ...] = ()
    """Names of Secrets with a registry's credentials."""
    namespace: str | None = None
    """Where the objects are made. Unset: the context's namespace, or the pod's own."""
    secret: str = "conveyor-store"  # noqa: S105 - the name of a Secret
    """Secret with the store's credentials: keys access-key, secret-key and, where needed, session-token. "" uses none: the
    pod's identity gives access."""
    service_account: str = "conveyor-step"
    """Account of the steps; it needs no rights in the cluster, and no token is mounted."""
    launcher_service_account: str = "conveyor-launcher"
    """Account of the pod that launches the steps."""
    labels: dict[str, str] = Field(default_factory=dict)
    """More labels of every object and pod."""
    annotations: dict[str, str] = Field(default_factory=dict)
    """Annotations of every Job and pod."""
    node_selector: dict[str, str] = Field(default_factory=dict)
    """Labels that a node must have."""
    tolerations: tuple[dict[str, Any], ...] = ()
    """Taints that are no obstacle, as Kubernetes writes them."""
    affinity: dict[str, Any] | None = None
    """Affinity of every pod, as Kubernetes writes it."""
    priority_class: str | None = None
    """PriorityClass of every pod."""
    placement: dict[str, Placement] = Field(default_factory=dict)
    """Step name (or `launcher`, or `default` for all steps) → where its pods run, over the four settings above."""
    security: Security = Field(default_factory=Security)
    """The user of every pod."""
    queue: str | None = None
    """Kueue's local queue that Jobs wait in."""
    env: dict[str, str] = Field(default_factory=dict)
    """More environment of every step; no credentials, they belong in a Secret."""
    resources: dict[str, Resources] = Field(default_factory=dict)
    """Step name (or `launcher`, or `default` for all) → what its pod gets."""
    shm_size: str = "256Mi"
    """Limit of /dev/shm of training pods; counts as memory."""
    mounts: tuple[Mount, ...] = ()
    """Volumes of yours in every step's pod."""
    ttl_s: int | None = Field(default=86400, ge=0)
    """Seconds that finished Jobs and their logs stay; null keeps them."""
    deadline_s: int | None = Field(default=86400, ge=1)
    """Seconds that one step may take, waiting included; null is no limit."""
    start_timeout_s: int = Field(default=300, ge=5)
    """Seconds that a pod may wait for a node, an image or a volume before the launch is given up and the reason told. An
    image that is being pulled has 25 minutes more."""
    retries: int = Field(default=3, ge=0, le=100)
    """How often a step's pod that failed is started anew (not after wrong settings; drains and preemption do not count)."""
    grace_s: int = Field(default=30, ge=1)
    """Seconds between the request to stop and the kill."""
    training: TrainingConfig = Field(default_factory=TrainingConfig)

    @field_validator("shm_size")
    @classmethod
    def _is_quantity(cls, value: str) -> str:
        if not QUANTITY.fullmatch(value):
            raise ValueError("a Kubernetes quantity, such as 256Mi")
        return value


# Small, so that the example fits a laptop's cluster; real data wants more for train and compress.
DEFAULT = Resources(cpu="500m", memory="2Gi", disk="10Gi", gpus=0)
DEFAULTS = {
    "train": Resources(cpu="500m", memory="3Gi"),
    "evaluate": Resources(memory="3Gi"),
    "compress": Resources(memory="4Gi"),
    "launcher": Resources(cpu="100m", memory="1Gi", disk="1Gi"),
}


def resources_for(settings: KubernetesConfig, step: str) -> Resources:
    """What a pod of `step` gets, with nothing left open but `cpu_limit`.

    The user's own for the step wins over the user's `default`, that over what we think fits the step; the launcher,
    which only waits, takes no part of `default`.
    """
    general = settings.resources.get("default") if step != "launcher" else None
    layers = [DEFAULT, DEFAULTS.get(step), general, settings.resources.get(step)]
    merged: dict[str, Any] = {}
    for layer in layers:
        if layer is not None:
            merged |= layer.model_dump(exclude_none=True)
    if "cpu_limit" in merged:  # Kubernetes refuses to reserve more than may be used.
        merged["cpu"] = min(merged["cpu"], merged["cpu_limit"], key=quantity)
    return Resources(**merged)


def placement_for(settings: KubernetesConfig, step: str) -> Placement:
    """Where the pods of `step` may run, layered like its resources.

    A layer replaces a setting as a whole: two node selectors are not joined, so that a step can leave a node pool.
    """
    flat = Placement(
        node_selector=settings.node_selector,
        tolerations=settings.tolerations,
        affinity=settings.affinity,
        priority_class=settings.priority_class,
    )
    general = settings.placement.get("default") if step != "launcher" else None
    merged: dict[str, Any] = {}
    for layer in (flat, general, settings.placement.get(step)):
        if layer is not None:
            merged |= {name: value for name, value in layer if value is not None}
    return Placement(**merged)


def quantity(value: str | float) -> float:
    """A Kubernetes quantity as a number: cores, or bytes."""
    text = str(value)
    unit = text.lstrip("0123456789.")
    return float(text.removesuffix(unit)) * UNITS[unit]
