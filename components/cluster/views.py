"""What a Job, an MPIJob and their pods say about themselves, under one set of names."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from components.cluster.api import Object
from components.cluster.names import CONTAINER, STEP

INDEX = "batch.kubernetes.io/job-completion-index"
MPI_NAME = "training.kubeflow.org/job-name"
MPI_ROLE = "training.kubeflow.org/job-role"
MPI_INDEX = "training.kubeflow.org/replica-index"
LAUNCHER = "launcher"
EVICTED = "MPIJobEvicted"
"""Reason of a condition `Failed` that is not the end: the MPI operator tells of evicted workers in this way."""
NEVER_RAN = ("StartError", "ContainerCannotRun")
"""Reasons of an end before a container's own first instruction."""
MIN_PODS = "CONVEYOR_TRAIN_MIN_PODS"


@dataclass(frozen=True, slots=True)
class State:
    """How far a Job is; `reason` and `message` are Kubernetes' own, of a failed one."""

    name: Literal["running", "complete", "failed"]
    reason: str = ""
    message: str = ""


def state_of(job: Object) -> State:
    for condition in job.get("status", {}).get("conditions") or []:
        if condition.get("status") != "True":
            continue
        if condition["type"] in ("Complete", "Succeeded"):
            return State("complete")
        if condition["type"] == "Failed" and condition.get("reason") != EVICTED:
            return State("failed", condition.get("reason", ""), condition.get("message", ""))
    return State("running")


def is_failing(job: Object) -> bool:
    """Failed, or about to be marked so: its pods are being ended."""
    conditions = job.get("status", {}).get("conditions") or []
    return any(
        each["type"] in ("FailureTarget", "Failed")
        and each.get("status") == "True"
        and each.get("reason") != EVICTED
        for each in conditions
    )


def ends_all(job: Object, exit_code: int | None) -> bool:
    """Whether a pod that ends so ends the Job with it, by its own rules."""
    rules = (job["spec"].get("podFailurePolicy") or {}).get("rules") or []
    final = [rule.get("onExitCodes", {}) for rule in rules if rule.get("action") == "FailJob"]
    return job["spec"].get("backoffLimit") == 0 or any(exit_code in each.get("values", ()) for each in final)


def is_mpi(job: Object) -> bool:
    return bool(job.get("kind") == "MPIJob")


def selector(job: Object) -> str:
    """What selects its pods."""
    if is_mpi(job):
        return f"{MPI_NAME}={job['metadata']['name']}"
    return f"batch.kubernetes.io/controller-uid={job['metadata']['uid']}"


def templates_of(job: Object) -> list[Object]:
    """What its pods are made from."""
    parts = job["spec"]["mpiReplicaSpecs"].values() if is_mpi(job) else [job["spec"]]
    return [part["template"] for part in parts if "template" in part]


def num_pods(job: Object) -> int:
    """How many pods it is to have at once."""
    if is_mpi(job):
        return num_workers(job) + 1
    return int(job["spec"].get("parallelism", 1))


def num_wanted(job: Object) -> int:
    """How many pods it does not go on without: fewer than `num_pods` where training is elastic."""
    return fewest_workers(job) + 1 if is_mpi(job) else num_pods(job)


def num_started(job: Object, pods: Sequence[Object]) -> int:
    """How many of those it has."""
    up = [pod for pod in pods if phase_of(pod) in ("Running", "Succeeded")]
    if not is_mpi(job):
        return len(up)
    workers = sum(is_worker(pod) for pod in up)
    return min(workers, fewest_workers(job)) + min(len(up) - workers, 1)


def num_workers(job: Object) -> int:
    """Workers that an MPIJob asks for."""
    return int(job["spec"]["mpiReplicaSpecs"]["Worker"]["replicas"])


def fewest_workers(job: Object) -> int:
    """Workers that an MPIJob goes on with."""
    launcher = job["spec"]["mpiReplicaSpecs"].get("Launcher", {})
    for container in launcher.get("template", {}).get("spec", {}).get("containers", ()):
        for entry in container.get("env") or ():
            if entry["name"] == MIN_PODS and entry.get("value"):
                return min(num_workers(job), int(entry["value"]))
    return num_workers(job)


def is_elastic(job: Object) -> bool:
    """Whether it goes on with fewer workers than it asks for."""
    return is_mpi(job) and fewest_workers(job) < num_workers(job)


def is_worker(pod: Object) -> bool:
    """Whether it is a worker of an MPIJob."""
    role = (pod["metadata"].get("labels") or {}).get(MPI_ROLE)
    return role is not None and role != LAUNCHER


def fallen_workers(job: Object, pods: Sequence[Object]) -> list[Object]:
    """Workers of an MPIJob that have ended and that the training needs: the operator makes no others in their place.

    It starts a worker's container again, and makes a pod again that was deleted; an evicted one stays `Failed`.
    """
    if not is_mpi(job):
        return []
    fallen = [
        pod
        for pod in pods
        if is_worker(pod)
        and phase_of(pod) in ("Failed", "Succeeded")
        and not pod["metadata"].get("deletionTimestamp")
    ]
    return fallen if num_workers(job) - len(fallen) < fewest_workers(job) else []


def phase_of(pod: Object) -> str:
    return str(pod.get("status", {}).get("phase") or "Pending")


def container_status(pod: Object) -> Object:
    """Of our container: what a mesh or an agent puts beside it says nothing of the step. Empty before it has one."""
    for status in pod.get("status", {}).get("containerStatuses") or []:
        if status.get("name") == CONTAINER:
            return dict(status)
    return {}


def deadline_of(job: Object) -> int | None:
    """Seconds that it may take."""
    spec = job["spec"].get("runPolicy", {}) if is_mpi(job) else job["spec"]
    seconds = spec.get("activeDeadlineSeconds")
    return None if seconds is None else int(seconds)


def is_queued(job: Object) -> bool:
    """Suspended: Kueue, or somebody, holds it back."""
    spec = job["spec"].get("runPolicy", {}) if is_mpi(job) else job["spec"]
    return bool(spec.get("suspend"))


def rank_of(pod: Object) -> str | None:
    """What tells it from its peers; None where it has none."""
    labels = pod["metadata"].get("labels") or {}
    if MPI_ROLE in labels:
        return LAUNCHER if labels[MPI_ROLE] == LAUNCHER else f"worker-{labels.get(MPI_INDEX, '?')}"
    index = labels.get(INDEX) or (pod["metadata"].get("annotations") or {}).get(INDEX)
    return str(index) if index is not None else None


def step_of(job: Object) -> str | None:
    """The step's name; None for the launcher of a run."""
    step = (job["metadata"].get("labels") or {}).get(STEP)
    return str(step) if step else None
