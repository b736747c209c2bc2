"""Why a pod does not start, and how it ended, told as a person would; Kubernetes' own words go along."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from components.cluster.api import Object
from components.common.errors import ConveyorError, GateRefusedError, InputError, StepError

SHORT_S = 10.0
"""Grace for what hardly ever cures itself: an account or a Secret that is being made this moment."""
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
MESSAGE_LIMIT = 600


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something that keeps a Job from running. `grace_s` None leaves it the whole `kubernetes.start_timeout_s`."""

    kind: str
    error: ConveyorError
    grace_s: float | None = None


def trouble_of_job(job: Object, pods: Sequence[Object], events: Sequence[Object]) -> Trouble | None:
    """Why its pods are not even made. `events` are the Job's own, the oldest first."""
    # What was refused before the newest pod came was cured since.
    newest = max((str(pod["metadata"].get("creationTimestamp", "")) for pod in pods), default="")
    refused = [
        event
        for event in events
        if event.get("reason") == "FailedCreate" and time_of(event)[:19] >= newest[:19]
    ]
    if not refused:
        return None
    message = str(refused[-1].get("message", ""))
    name = job["metadata"]["name"]
    where = f"Job {name} in the namespace {job['metadata']['namespace']}"
    if "exceeded quota" in message or "must specify limits" in message or "must specify requests" in message:
        return Trouble(
            "quota",
            StepError(
                "the namespace's quota leaves no room for its pods",
                where=where,
                found=_short(message),
                todo="end or delete what is not needed, ask for less (kubernetes.resources), or for a larger quota: "
                "kubectl describe resourcequota",
            ),
        )
    if "violates PodSecurity" in message:
        return Trouble(
            "policy",
            InputError(
                "the namespace's Pod Security refuses its pods",
                where=where,
                found=_short(message),
                todo="the message names what is refused; Conveyor's own pods pass restricted, so look at "
                "kubernetes.mounts and at what webhooks add",
            ),
            SHORT_S,
        )
    missing = re.search(r'serviceaccount "([^"]+)" not found', message)
    if missing:
        return Trouble(
            "account",
            InputError(
                f"there is no ServiceAccount {missing.group(1)}",
                where=where,
                found=_short(message),
                todo="install Conveyor in this namespace first (its chart or manifests make the accounts), or set "
                "kubernetes.service_account and kubernetes.launcher_service_account",
            ),
            SHORT_S,
        )
    return Trouble(
        "admission",
        InputError("the cluster refuses its pods", where=where, found=_short(message)),
        SHORT_S,
    )


def trouble_of_pod(pod: Object, events: Sequence[Object]) -> Trouble | None:
    """Why it does not start. `events` are the pod's own, the oldest first. None for one that runs or has ended."""
    status = pod.get("status", {})
    if status.get("phase") not in (None, "Pending", "Unknown"):
        return None
    where = place(pod)
    for condition in status.get("conditions") or []:
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            if condition.get("reason") == "SchedulingGated":
                return None
            return Trouble(
                "unschedulable",
                StepError(
                    "no node takes the pod",
                    where=where,
                    found=_short(condition.get("message", "")),
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
        return Trouble(
            "start",
            StepError("the container cannot be started", where=where, found=_short(message)),
            SHORT_S,
        )
    return None


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
                f"the image {image} cannot be pulled", where=where, found=_short(detail or reason), todo=todo
            ),
        )
    return Trouble(
        "image", InputError(what, where=where, found=_short(detail or message or reason), todo=todo), SHORT_S
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
    return Trouble("config", InputError(what, where=where, found=_short(message), todo=todo), SHORT_S)


def _slow(events: Sequence[Object], where: str) -> Trouble | None:
    """Scheduled, and not there yet: a volume, the network, or a large image that is on its way."""
    if not events:
        return Trouble("slow", StepError("the pod does not start", where=where, found="no event says why"))
    if events[-1].get("reason") == "Pulling":
        return None
    warnings = [event for event in events if event.get("type") == "Warning"]
    found = "; ".join(str(event.get("message", "")) for event in (warnings or events)[-2:])
    return Trouble("slow", StepError("the pod does not start", where=where, found=_short(found)))


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
    terminated = _terminated(status)
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
        error = StepError("the node evicted the pod", where=where, found=_short(message), todo=todo)
        return End(f"was evicted: {message}", None, error, own=False, disrupted=disrupted)
    if terminated is None:
        message = f"{status.get('reason', '')} {status.get('message', '')}".strip()
        error = StepError("the pod was lost", where=where, found=_short(message) or None)
        return End(f"was lost: {message}", None, error, own=False, disrupted=disrupted)
    return _end_of_container(pod, terminated, where, disrupted)


def _end_of_container(pod: Object, terminated: Object, where: str, disrupted: bool) -> End:
    code = int(terminated.get("exitCode", 0))
    reason, message = str(terminated.get("reason", "")), str(terminated.get("message", ""))
    if reason == "OOMKilled":
        limit = pod["spec"]["containers"][0].get("resources", {}).get("limits", {}).get("memory", "?")
        step = (pod["metadata"].get("labels") or {}).get("app.kubernetes.io/component", "STEP")
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
    if reason in ("StartError", "ContainerCannotRun"):
        error = StepError(
            "the container cannot be started",
            where=where,
            found=_short(message),
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


def time_of(event: Object) -> str:
    """When it was last seen."""
    series = event.get("series") or {}
    return str(
        series.get("lastObservedTime")
        or event.get("lastTimestamp")
        or event.get("eventTime")
        or event["metadata"].get("creationTimestamp")
        or ""
    )


def _terminated(status: Object) -> Object | None:
    for each in status.get("containerStatuses") or []:
        found = each.get("state", {}).get("terminated") or each.get("lastState", {}).get("terminated")
        if found:
            return dict(found)
    return None


def place(pod: Object) -> str:
    """Which pod, where: it can be pasted after kubectl."""
    metadata = pod["metadata"]
    node = pod.get("spec", {}).get("nodeName")
    return f"pod {metadata['name']} in the namespace {metadata['namespace']}" + (
        f" on {node}" if node else ""
    )


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= MESSAGE_LIMIT else text[: MESSAGE_LIMIT - 1] + "…"


def _tail(message: str) -> str | None:
    lines = [line for line in message.splitlines() if line.strip()]
    return "\n    ".join(lines[-8:]) or None
