"""Watch a Job to its end: every pod's log, every pod's death, and what keeps it from starting, in time."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from components.cluster.api import EVENT, POD, Cluster, Kind, Object
from components.cluster.diagnose import End, Trouble, end_of_pod, time_of, trouble_of_job, trouble_of_pod
from components.cluster.logs import LogReader, has_started
from components.cluster.relay import Relay
from components.cluster.verdict import verdict
from components.cluster.views import (
    LAUNCHER,
    ends_all,
    is_failing,
    is_mpi,
    is_queued,
    rank_of,
    selector,
    state_of,
    step_of,
    wanted_pods,
)
from components.common.errors import ConveyorError, StepError

POLL_S = 1.0
DRAIN_S = 15.0
FOR_GOOD = (2, 4, 76)
ENDED_QUIETLY = (75, 130)
"""Left because a peer died, or was asked to: the peer's end is the one to tell."""


class JobGone(StepError):
    """The Job was deleted while it was followed."""


class NeverStarted(Exception):
    """None of the Job's pods has begun, and by the look of it none will."""

    def __init__(self, error: ConveyorError) -> None:
        super().__init__(error.what)
        self.error = error


@dataclass
class _Seen:
    """What is known of one trouble."""

    since: float
    told: bool = False


@dataclass
class JobWatch:
    """Follows one Job. `timeout_s` is what a pod has to start in."""

    cluster: Cluster
    kind: Kind
    name: str
    relay: Relay
    timeout_s: float
    clock: Callable[[], float] = time.monotonic
    pods: dict[str, Object] = field(default_factory=dict)
    """Every pod that was seen, by uid, as it was last seen: those of a Job past its deadline are deleted."""
    _readers: dict[str, LogReader] = field(default_factory=dict)
    _ends: dict[str, str | None] = field(default_factory=dict)
    """What to tell of a pod's end, by its uid; None once told. One poll late, since the Job's own end says it better."""
    _troubles: dict[str, _Seen] = field(default_factory=dict)
    _queued: bool = False

    def wait(self) -> Object:
        """Return the finished Job. Raises `NeverStarted`, `JobGone`, or the error that the Job ended with."""
        try:
            return self._wait()
        finally:
            for reader in self._readers.values():
                reader.stop()
            self.relay.close()

    def _wait(self) -> Object:
        uid: str | None = None
        while True:
            job = self.cluster.get(self.kind, self.name)
            if job is None or (uid is not None and job["metadata"]["uid"] != uid):
                raise JobGone(
                    f"the {self.kind.name} {self.name} was deleted while it ran",
                    where=f"namespace {self.cluster.namespace}",
                    todo="run the same command again: it goes on where it stopped",
                )
            uid = job["metadata"]["uid"]
            job.setdefault("kind", self.kind.name)
            pods = self._look(job)
            state = state_of(job)
            if state.name != "running":
                self._drain()
            if state.name == "complete":
                return job
            if state.name == "failed":
                raise verdict(job, state, list(self.pods.values()), self._events(job))
            self._end_early(job)
            self._check(job, pods)
            time.sleep(POLL_S)

    def _look(self, job: Object) -> list[Object]:
        """Take in what its pods do now: start reading logs, tell deaths."""
        found = self.cluster.list(POD, labels=selector(job))
        for pod in found:
            uid = pod["metadata"]["uid"]
            self.pods[uid] = pod
            if uid not in self._readers and has_started(pod):
                self._readers[uid] = self._read(pod, job)
            end = end_of_pod(pod)
            if end is not None:
                self._tell(job, pod, end)
        return found

    def _read(self, pod: Object, job: Object) -> LogReader:
        step, rank, name = step_of(job), rank_of(pod), pod["metadata"]["name"]

        def take(line: str, at: str) -> None:
            self.relay.line(line, step=step, rank=rank, pod=name if step else "", at=at if step else "")

        reader = LogReader(self.cluster, name, take)
        reader.start()
        return reader

    def _tell(self, job: Object, pod: Object, end: End) -> None:
        uid = pod["metadata"]["uid"]
        if uid not in self._ends:
            quiet = end.exit_code in ENDED_QUIETLY or ends_all(job, end.exit_code)
            note = " (does not count against the Job)" if end.disrupted else ""
            self._ends[uid] = None if quiet else f"pod {pod['metadata']['name']} {end.how}{note}"
            return
        words = self._ends[uid]
        if words is not None and not is_failing(job):
            self._ends[uid] = None
            self.relay.warning(words)

    def _end_early(self, job: Object) -> None:
        """An MPIJob has no podFailurePolicy: what no further try can mend ends it here."""
        if not is_mpi(job):
            return
        for pod in self.pods.values():
            end = end_of_pod(pod)
            if end is not None and rank_of(pod) == LAUNCHER and end.exit_code in FOR_GOOD:
                self._drain()
                self.cluster.delete(self.kind, self.name, uid=job["metadata"]["uid"])
                raise end.error

    def _drain(self) -> None:
        end = time.monotonic() + DRAIN_S
        for reader in self._readers.values():
            reader.join(max(0.0, end - time.monotonic()))

    def _check(self, job: Object, pods: list[Object]) -> None:
        """Give up what does not start, after its grace; say at once what it waits for."""
        if is_queued(job):
            if not self._queued:
                self.relay.info(f"{self.name} waits in its queue (it is suspended)")
            self._queued = True
            self._troubles.clear()
            return
        found = {pod["metadata"]["uid"]: trouble for pod in pods if (trouble := self._trouble(pod))}
        well = [pod for pod in pods if pod.get("status", {}).get("phase") != "Failed"]
        if len(well) < wanted_pods(job):
            trouble = trouble_of_job(job, pods, self._events(job)) or (None if pods else _no_pods(job))
            if trouble:
                found[job["metadata"]["uid"]] = trouble
        current = {f"{uid}/{trouble.kind}": trouble for uid, trouble in found.items()}
        now = self.clock()
        self._troubles = {key: self._troubles.get(key, _Seen(now)) for key in current}
        for key, trouble in current.items():
            seen = self._troubles[key]
            grace = self.timeout_s if trouble.grace_s is None else min(trouble.grace_s, self.timeout_s)
            if now - seen.since >= grace:
                self._give_up(trouble)
            if not seen.told and trouble.kind != "slow" and now - seen.since >= 2 * POLL_S:
                seen.told = True
                self.relay.warning(
                    f"waiting: {trouble.error.what} ({trouble.error.where}: {trouble.error.found})"
                )

    def _give_up(self, trouble: Trouble) -> None:
        error = trouble.error
        if trouble.grace_s is None:
            error.what += f", for {self.timeout_s:.0f} s now (kubernetes.start_timeout_s)"
        if any(has_started(pod) for pod in self.pods.values()):
            raise error
        raise NeverStarted(error)

    def _trouble(self, pod: Object) -> Trouble | None:
        if pod.get("status", {}).get("phase") not in (None, "Pending"):
            return None
        return trouble_of_pod(pod, self._events(pod))

    def _events(self, thing: Object) -> list[Object]:
        """Its events, the oldest first."""
        events = self.cluster.list(EVENT, fields=f"involvedObject.uid={thing['metadata']['uid']}")
        return sorted(events, key=time_of)


def _no_pods(job: Object) -> Trouble:
    name, namespace = job["metadata"]["name"], job["metadata"]["namespace"]
    return Trouble(
        "slow",
        StepError(
            "no pod was made",
            where=f"Job {name} in the namespace {namespace}",
            todo=f"kubectl -n {namespace} describe job {name}   shows what the controller says",
        ),
    )
