"""How a Job failed, in one error: the step's own where it left one, else what Kubernetes says of its last pod."""

from collections.abc import Sequence

from components.cluster.api import Object
from components.cluster.diagnose import End, end_of_pod, trouble_of_job, trouble_of_pod
from components.cluster.views import State, rank_of
from components.common.errors import ConveyorError, StepError

FOLLOWERS = (75, 130)


def verdict(job: Object, state: State, pods: Sequence[Object], events: Sequence[Object]) -> ConveyorError:
    """The error to raise for a failed Job. `pods` are all that were seen, `events` the Job's own."""
    name, namespace = job["metadata"]["name"], job["metadata"]["namespace"]
    ends = [(pod, end) for pod in sorted(pods, key=_ended_at) if (end := end_of_pod(pod)) is not None]
    if state.reason == "DeadlineExceeded":
        return _late(job, state, pods, events)
    told = [(pod, end) for pod, end in ends if end.exit_code not in FOLLOWERS]
    if not told:
        told = ends
    if not told:
        return StepError(
            f"the Job {name} failed, and its pods are gone",
            where=f"namespace {namespace}",
            found=f"{state.reason}: {state.message}",
            todo="run again; kubernetes.ttl_s says how long finished pods stay",
        )
    error = _most_telling(told)[1].error
    if state.reason == "BackoffLimitExceeded" and len(told) > 1:
        again = f"after {len(told)} tries (kubernetes.retries)"
        error.where = f"{error.where}, {again}" if error.where else again
    return error


def _most_telling(told: Sequence[tuple[Object, End]]) -> tuple[Object, End]:
    """What ends a Job for good before all else, then the latest; of one moment, rank 0 speaks for all."""

    def rank(item: tuple[Object, End]) -> tuple[bool, bool, str, bool]:
        pod, end = item
        return end.exit_code in (2, 4, 76), end.own, _ended_at(pod), rank_of(pod) in (None, "0", "launcher")

    return max(told, key=rank)


def _late(job: Object, state: State, pods: Sequence[Object], events: Sequence[Object]) -> ConveyorError:
    """Past its deadline; if it never got to run, why."""
    name, namespace = job["metadata"]["name"], job["metadata"]["namespace"]
    found: str | None = state.message or None
    for pod in pods:
        trouble = trouble_of_pod(pod, [])
        if trouble is not None and trouble.kind != "slow":
            found = f"{trouble.error.what}: {trouble.error.found}"
    stuck = trouble_of_job(job, pods, events)
    if stuck is not None and not pods:
        found = f"{stuck.error.what}: {stuck.error.found}"
    seconds = job["spec"].get("activeDeadlineSeconds")
    return StepError(
        f"it took longer than its deadline of {seconds} s",
        where=f"Job {name} in the namespace {namespace}",
        found=found,
        todo="run again to go on where it stopped; kubernetes.deadline_s allows more",
    )


def _ended_at(pod: Object) -> str:
    times = [
        str((status.get("state", {}).get("terminated") or {}).get("finishedAt") or "")
        for status in pod.get("status", {}).get("containerStatuses") or []
    ]
    return max(times, default="")
