"""What keeps a Job from running, and the words and times that such findings are made of."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from components.cluster.api import Object
from components.common.errors import ConveyorError

SHORT_S = 10.0
"""Grace for what hardly ever cures itself: an account or a Secret that is being made this moment."""
NEVER = math.inf
"""Grace of what is told and waited out: giving up would not help."""
MESSAGE_LIMIT = 600


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something that keeps a Job from running.

    `grace_s` None leaves it the whole `kubernetes.start_timeout_s`, and `extra_s` on top.
    """

    kind: str
    error: ConveyorError
    grace_s: float | None = None
    extra_s: float = 0.0

    @property
    def is_quiet(self) -> bool:
        """Whether it is no news before its grace is over: everything takes its time."""
        return self.kind in ("slow", "pulling")

    @property
    def is_borne(self) -> bool:
        """Whether it is told at once and never given up."""
        return self.grace_s == NEVER


def place(pod: Object) -> str:
    """Which pod, where: it can be pasted after kubectl."""
    metadata = pod["metadata"]
    node = pod.get("spec", {}).get("nodeName")
    return f"pod {metadata['name']} in the namespace {metadata['namespace']}" + (
        f" on {node}" if node else ""
    )


def place_of_job(job: Object) -> str:
    """Which Job or MPIJob, where."""
    metadata = job["metadata"]
    return f"{job.get('kind', 'Job')} {metadata['name']} in the namespace {metadata['namespace']}"


def describe(thing: Object) -> str:
    """The command that shows what the controllers say of it."""
    metadata, kind = thing["metadata"], str(thing.get("kind", "Job")).lower()
    return f"kubectl -n {metadata['namespace']} describe {kind} {metadata['name']}"


def short(text: str) -> str:
    """On one line, and no longer than a person reads."""
    text = " ".join(text.split())
    return text if len(text) <= MESSAGE_LIMIT else text[: MESSAGE_LIMIT - 1] + "…"


def last_warnings(events: Sequence[Object]) -> str:
    """The newest two warnings; where there is none, whatever was said last. `events`: the oldest first."""
    warnings = [event for event in events if event.get("type") == "Warning"]
    return short("; ".join(str(event.get("message", "")) for event in (warnings or list(events))[-2:]))


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


def seconds_of(time: str) -> float:
    """A time of the API server (RFC 3339, UTC) as seconds since 1970."""
    return datetime.fromisoformat(time[:19] + "+00:00").timestamp()
