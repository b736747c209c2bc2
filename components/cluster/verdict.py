"""How a Job failed, in one error: the step's own where it left one, else what Kubernetes says of its last pod."""

from collections.abc import Sequence

from components.cluster.api import Object
from components.cluster.diagnose import End, end_of_pod, trouble_of_pod
from components.cluster.refused import trouble_of_job
from components.cluster.trouble import place_of_job
from components.cluster.views import State, container_status, deadline_of, is_mpi, rank_of, step_of
from components.common.errors import ConveyorError, StepError

FOLLOWERS = (75, 130)


def verdict(job: Object, state: State, pods: Sequence[Object], events: Sequence[Object]) -> ConveyorError:
    """The error to raise for a failed Job. `pods` are all that were seen, `events` the Job's own."""
    ends = [(pod, end) for pod in sorted(pods, key=_ended_at) if (end := end_of_pod(pod)) is not None]
    if state.reason == "DeadlineExceeded":
        return _late(job, state, pods, events)
    told = [(pod, end) for pod, end in ends if end.exit_code not in FOLLOWERS]
    if not told:
        told = ends
    if not told:
        return StepError(
            f"the {job.get('kind', 'Job')} failed, and its pods are gone",
            where=place_of_job(job),
            found=f"{state.reason}: {state.message}",
            todo="run again; kubernetes.ttl_s says how long finished pods stay",
        )
    error = _most_telling(told)[1].error
    # The MPI operator appends its launcher pod's own reason, which may be empty: BackoffLimitExceeded/
    if state.reason.split("/")[0] == "BackoffLimitExceeded" and len(told) > 1:
        setting = _setting_of_tries(job)
        again = f"after {len(told)} tries" + (f" ({setting})" if setting else "")
        error.where = f"{error.where}, {again}" if error.where else again
    return error


def _setting_of_tries(job: Object) -> str | None:
    if is_mpi(job) or job["spec"].get("completionMode") == "Indexed":
        return "kubernetes.training.max_attempts"
    return "kubernetes.retries" if step_of(job) else None


def _most_telling(told: Sequence[tuple[Object, End]]) -> tuple[Object, End]:
    """What ends a Job for good before all else, then the latest; of one moment, rank 0 speaks for all."""

    def rank(item: tuple[Object, End]) -> tuple[bool, bool, str, bool]:
        pod, end = item
        return end.exit_code in (2, 4, 76), end.own, _ended_at(pod), rank_of(pod) in (None, "0", "launcher")

    return max(told, key=rank)


def _late(job: Object, state: State, pods: Sequence[Object], events: Sequence[Object]) -> ConveyorError:
    """Past its deadline; if it never got to run, why."""
    found: str | None = state.message or None
    for pod in pods:
        trouble = trouble_of_pod(pod, [])
        if trouble is not None and not trouble.is_quiet:
            found = f"{trouble.error.what}: {trouble.error.found}"
    stuck = trouble_of_job(job, pods, events)
    if stuck is not None and not pods:
        found = f"{stuck.error.what}: {stuck.error.found}"
    return StepError(
        f"it took longer than its deadline of {deadline_of(job)} s",
        where=place_of_job(job),
        found=found,
        todo="run again to go on where it stopped; kubernetes.deadline_s allows more",
    )


def _ended_at(pod: Object) -> str:
    terminated = container_status(pod).get("state", {}).get("terminated") or {}
    return str(terminated.get("finishedAt") or "")
