"""Why a pod does not start, and how it ended, told as a person would; Kubernetes' own words go along."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from components.cluster.api import Object
from components.cluster.names import COMPONENT, CONTAINER
from components.cluster.trouble import NEVER, SHORT_S, Trouble, last_warnings, place, seconds_of, short
from components.cluster.views import LAUNCHER, NEVER_RAN, container_status, is_worker, phase_of, rank_of
from components.common.errors import ConveyorError, GateRefusedError, InputError, StepError

PULL_REASONS = (
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
    "ErrImageNeverPull",
    "ImageInspectError",
    "RegistryUnavailable",
)
NOT_FOUND = re.compile(r"not found|NotFound|manifest unknown|does not exist|no such image", re.IGNORECASE)
REFUSED = re.compile(r"unauthorized|denied|authentication|\b40[13]\b", re.IGNORECASE)
NO_PROGRAM = re.compile(r'exec: "|no such file or directory|not found in \$PATH')
PULL_S = 1500.0
"""How much longer than `kubernetes.start_timeout_s` an image may be on its way, while its node says that it comes."""
GATED = "SchedulingGated"
"""Why the scheduler does not look at a pod yet: somebody (Kueue, say) holds it back."""
LOST_S = 60.0
"""A pod that was to be gone so long ago is on a node that does not answer."""


def trouble_of_pod(pod: Object, events: Sequence[Object]) -> Trouble | None:
    """Why it does not start. `events` are the pod's own, the oldest first. None for one that runs or has ended."""
    status, phase = pod.get("status", {}), phase_of(pod)
    if phase == "Running":
        return _crashing(pod)
    if phase not in ("Pending", "Unknown"):
        return None
    where = place(pod)
    for condition in status.get("conditions") or []:
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            if condition.get("reason") == GATED:
                return None
            return Trouble(
                "unschedulable",
                StepError(
                    "no node takes the pod",
                    where=where,
                    found=short(condition.get("message", "")),
                    todo="ask for less (kubernetes.resources), for other nodes (node_selector, tolerations, affinity), "
                    "or add a node",
                ),
            )
    for container in [
        *(status.get("initContainerStatuses") or []),
        *(status.get("containerStatuses") or []),
    ]:
        waiting = container.get("state", {}).get("waiting")
        if waiting:
            found = _waiting(pod, container, waiting, events, where)
            if found is not None:
                return found
    return _slow(events, where)


def is_gated(pod: Object) -> bool:
    """Whether it waits for somebody to take its scheduling gates away, as a Job waits in its queue."""
    conditions = pod.get("status", {}).get("conditions") or []
    return phase_of(pod) == "Pending" and any(each.get("reason") == GATED for each in conditions)


def trouble_of_lost(pod: Object, now_s: float) -> Trouble | None:
    """A pod that was to end and does not, since its node is away. `now_s`: seconds since 1970."""
    until = pod["metadata"].get("deletionTimestamp")  # the time that it had to end in is in it
    if not until or phase_of(pod) in ("Succeeded", "Failed") or now_s - seconds_of(until) < LOST_S:
        return None
    node, metadata = pod.get("spec", {}).get("nodeName", "?"), pod["metadata"]
    return Trouble(
        "lost",
        StepError(
            f"the node {node} does not answer; its pod cannot be replaced until the node is back or removed",
            where=place(pod),
            found=f"the pod was to be gone at {until}",
            todo=f"if the node is really off: kubectl -n {metadata['namespace']} delete pod {metadata['name']} --force",
        ),
        NEVER,
    )


def _crashing(pod: Object) -> Trouble | None:
    """The pod runs by Kubernetes' word, and its container does not: it is started again and again."""
    status = container_status(pod)
    waiting = status.get("state", {}).get("waiting")
    return _waiting(pod, status, waiting, (), place(pod)) if waiting else None


def _waiting(
    pod: Object, container: Object, waiting: Object, events: Sequence[Object], where: str
) -> Trouble | None:
    reason = str(waiting.get("reason", ""))
    message = str(waiting.get("message", ""))
    if reason in PULL_REASONS:
        return _pull(reason, message, str(container.get("image")), events, where)
    if reason == "CreateContainerConfigError":
        return _missing(message, where, pod["metadata"]["namespace"])
    if reason in ("CreateContainerError", "RunContainerError"):
        return _no_start(pod, message, where)
    if reason == "CrashLoopBackOff":
        last = container.get("lastState", {}).get("terminated") or {}
        said = str(last.get("message") or message)
        if last.get("reason") in NEVER_RAN:
            return _no_start(pod, said, where)
        return Trouble(
            "crash",
            StepError(
                f"the container {container.get('name')} ends as soon as it is started (exit {last.get('exitCode', '?')})",
                where=where,
                found=_tail(said),
                todo=f"kubectl -n {pod['metadata']['namespace']} logs {pod['metadata']['name']} -c "
                f"{container.get('name')} --previous   shows its last words",
            ),
        )
    return None


def _no_start(pod: Object, message: str, where: str) -> Trouble:
    error: ConveyorError
    if is_worker(pod) and NO_PROGRAM.search(message):
        error = InputError(
            "the image has no ssh server",
            where=where,
            found=short(message),
            todo="kubernetes.training.kind: mpi-job needs the image conveyor:mpi (docker/Dockerfile, target mpi)",
        )
    else:
        error = StepError(
            "the container cannot be started",
            where=where,
            found=short(message),
            todo="is kubernetes.image an image of Conveyor?",
        )
    return Trouble("start", error, SHORT_S)


def _pull(reason: str, message: str, image: str, events: Sequence[Object], where: str) -> Trouble:
    said = [str(event.get("message", "")) for event in events if event.get("reason") == "Failed"]
    detail = next((text for text in reversed(said) if "failed to" in text.lower()), message)
    todo = "check kubernetes.image (--image); a node must be able to pull it, or have it already"
    if reason == "ErrImageNeverPull":
        what, todo = f"the image {image} is not on the node", "load it, or set kubernetes.image_pull_policy"
    elif reason == "InvalidImageName":
        what = f"{image} is not an image's name"
    elif REFUSED.search(detail):
        what = f"the registry does not give out the image {image}"
        todo = "check its name, and name a Secret with the registry's credentials in kubernetes.image_pull_secrets"
    elif NOT_FOUND.search(detail):
        what = f"there is no image {image}"
    else:
        # A registry that is away may come back.
        return Trouble(
            "pull",
            InputError(
                f"the image {image} cannot be pulled", where=where, found=short(detail or reason), todo=todo
            ),
        )
    return Trouble(
        "image", InputError(what, where=where, found=short(detail or message or reason), todo=todo), SHORT_S
    )


def _missing(message: str, where: str, namespace: str) -> Trouble:
    secret = re.search(r'secret "([^"]+)" not found', message)
    config = re.search(r'configmap "([^"]+)" not found', message)
    key = re.search(r"couldn't find key (\S+) in Secret \S+/(\S+)", message)
    todo = None
    if secret:
        what = f"there is no Secret {secret.group(1)}"
        todo = (
            f"kubectl -n {namespace} create secret generic {secret.group(1)} --from-literal=access-key=… "
            '--from-literal=secret-key=…   (or set kubernetes.secret, or "" where the pod\'s identity gives access)'
        )
    elif key:
        what = f"the Secret {key.group(2)} has no key {key.group(1)}"
        todo = "it needs access-key and secret-key"
    elif config:
        what = f"there is no ConfigMap {config.group(1)}"
        todo = "somebody deleted it: run again"
    else:
        what = "the container cannot be made"
    return Trouble("config", InputError(what, where=where, found=short(message), todo=todo), SHORT_S)


def _slow(events: Sequence[Object], where: str) -> Trouble:
    """Scheduled, and not there yet: a volume, the network, or a large image that is on its way."""
    if not events:
        return Trouble("slow", StepError("the pod does not start", where=where, found="no event says why"))
    if events[-1].get("reason") == "Pulling":
        error = StepError(
            "the pod's image is still being pulled",
            where=where,
            found=short(str(events[-1].get("message", ""))),
            todo="is the registry slow, or the image larger than it should be? kubernetes.start_timeout_s allows more",
        )
        # Of a kind of its own: once the image is there, the grace of what comes next begins.
        return Trouble("pulling", error, extra_s=PULL_S)
    return Trouble("slow", StepError("the pod does not start", where=where, found=last_warnings(events)))


@dataclass(frozen=True, slots=True)
class End:
    """How a pod ended that did not succeed."""

    how: str
    """For a sentence that begins with the pod: `was killed: out of memory (limit 2Gi)`."""
    exit_code: int | None
    error: ConveyorError
    own: bool
    """Whether the step itself said what was wrong."""
    disrupted: bool
    """Evicted, drained, preempted: does not count against the Job."""


def end_of_pod(pod: Object) -> End | None:
    """None for a pod that has not ended, or that succeeded."""
    status = pod.get("status", {})
    terminated = _terminated(pod)
    if status.get("phase") != "Failed" and not (terminated and terminated.get("exitCode")):
        return None
    disrupted = any(
        each.get("type") == "DisruptionTarget" and each.get("status") == "True"
        for each in status.get("conditions") or []
    )
    where = place(pod)
    if status.get("reason") == "Evicted":
        message = str(status.get("message", ""))
        todo = None
        if "storage" in message or "EmptyDir" in message:
            todo = "allow more (kubernetes.resources: disk, or kubernetes.shm_size), if it is the step that fills it"
        error = StepError("the node evicted the pod", where=where, found=short(message), todo=todo)
        return End(f"was evicted: {message}", None, error, own=False, disrupted=disrupted)
    if terminated is None:
        message = f"{status.get('reason', '')} {status.get('message', '')}".strip()
        error = StepError("the pod was lost", where=where, found=short(message) or None)
        return End(f"was lost: {message}", None, error, own=False, disrupted=disrupted)
    return _end_of_container(pod, terminated, where, disrupted)


def _end_of_container(pod: Object, terminated: Object, where: str, disrupted: bool) -> End:
    code = int(terminated.get("exitCode", 0))
    reason, message = str(terminated.get("reason", "")), str(terminated.get("message", ""))
    if reason == "OOMKilled":
        limit = _spec(pod).get("resources", {}).get("limits", {}).get("memory", "?")
        step = (pod["metadata"].get("labels") or {}).get(COMPONENT, "STEP")
        if rank_of(pod) == LAUNCHER:
            step = LAUNCHER  # an MPIJob's is sized as any launcher
        error = StepError(
            f"the pod ran out of memory and was killed (OOMKilled, exit {code})",
            where=where,
            expected=f"at most {limit}",
            todo=f"give it more: kubernetes.resources.{step.removesuffix('-worker')}.memory",
        )
        how = f"was killed: out of memory (limit {limit})"
        return End(how, code, error, own=False, disrupted=disrupted)
    own = own_error(message, where)
    if own is not None:
        return End(f"ended with exit {code}: {own.what}", code, own, own=True, disrupted=disrupted)
    if reason in NEVER_RAN:
        error = StepError(
            "the container cannot be started",
            where=where,
            found=short(message),
            todo="is kubernetes.image an image of Conveyor?",
        )
        return End(f"could not be started: {message}", code, error, own=False, disrupted=disrupted)
    what = f"the pod ended with exit {code}"
    if code > 128:
        what = f"the pod was killed (exit {code}: signal {code - 128})"
    error = StepError(
        what,
        where=where,
        found=_tail(message),
        todo=f"kubectl -n {pod['metadata']['namespace']} logs {pod['metadata']['name']}   shows the rest",
    )
    return End(f"ended with exit {code}", code, error, own=False, disrupted=disrupted)


def own_error(message: str, where: str) -> ConveyorError | None:
    """The error that the step left as its termination message; None where it left none."""
    try:
        value: Any = json.loads(message.strip().splitlines()[-1])
    except (ValueError, IndexError):
        return None
    if not isinstance(value, dict) or "what" not in value:
        return None
    kinds: dict[Any, type[ConveyorError]] = {2: InputError, 4: GateRefusedError}
    kind = kinds.get(value.get("exit_code"), StepError)
    own_where = value.get("where")
    return kind(
        str(value["what"]),
        where=f"{own_where} ({where})" if own_where else where,
        expected=value.get("expected"),
        found=value.get("found"),
        todo=value.get("todo"),
    )


def _terminated(pod: Object) -> Object | None:
    status = container_status(pod)
    found = status.get("state", {}).get("terminated") or status.get("lastState", {}).get("terminated")
    return dict(found) if found else None


def _spec(pod: Object) -> Object:
    """Our container, as it was asked for."""
    return next((dict(each) for each in pod["spec"]["containers"] if each.get("name") == CONTAINER), {})


def _tail(message: str) -> str | None:
    lines = [line for line in message.splitlines() if line.strip()]
    return "\n    ".join(lines[-8:]) or None
