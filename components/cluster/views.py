"""What a Job, an MPIJob and their pods say about themselves, under one set of names."""

from dataclasses import dataclass
from typing import Literal

from components.cluster.api import Object
from components.cluster.names import STEP

INDEX = "batch.kubernetes.io/job-completion-index"
MPI_NAME = "training.kubeflow.org/job-name"
MPI_ROLE = "training.kubeflow.org/job-role"
MPI_INDEX = "training.kubeflow.org/replica-index"
LAUNCHER = "launcher"


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
        # An evicted MPIJob launcher is started anew: that is not the end.
        if condition["type"] == "Failed" and condition.get("reason") != "MPIJobEvicted":
            return State("failed", condition.get("reason", ""), condition.get("message", ""))
    return State("running")


def is_failing(job: Object) -> bool:
    """Failed, or about to be marked so: its pods are being ended."""
    conditions = job.get("status", {}).get("conditions") or []
    return any(
        each["type"] in ("FailureTarget", "Failed") and each.get("status") == "True" for each in conditions
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


def wanted_pods(job: Object) -> int:
    """How many run at once."""
    if is_mpi(job):
        return int(job["spec"]["mpiReplicaSpecs"]["Worker"]["replicas"]) + 1
    return int(job["spec"].get("parallelism", 1))


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
