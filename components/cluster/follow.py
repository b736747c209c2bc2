"""Watch a Job to its end: every pod's log, every pod's death, and what keeps it from starting, in time."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from components.cluster.api import EVENT, JOB, POD, Cluster, Kind, Object
from components.cluster.diagnose import End, end_of_pod, is_gated, trouble_of_lost, trouble_of_pod
from components.cluster.logs import LogReader, has_started
from components.cluster.patience import GivenUp, NeverStarted, Patience
from components.cluster.refused import too_few, trouble_of_job
from components.cluster.relay import Relay
from components.cluster.trouble import Trouble, describe, place, place_of_job, seconds_of, time_of
from components.cluster.verdict import verdict
from components.cluster.views import (
    LAUNCHER,
    State,
    deadline_of,
    ends_all,
    fallen_workers,
    fewest_workers,
    is_elastic,
    is_failing,
    is_mpi,
    is_queued,
    is_worker,
    num_pods,
    num_started,
    num_wanted,
    phase_of,
    rank_of,
    selector,
    state_of,
    step_of,
)
from components.common.errors import ConveyorError, StepError

POLL_S = 1.0
DRAIN_S = 15.0
GOING_S = 300.0
"""How long a deleted Job may take to go, beyond the time that its pods have to end in."""
FOR_GOOD = (2, 4, 76)
ENDED_QUIETLY = (75, 130)
"""Left because a peer died, or was asked to: the peer's end is the one to tell."""


class JobGone(StepError):
    """The Job was deleted while it was followed."""


class WorkersGone(Exception):
    """Workers of an MPIJob ended for good (evicted, mostly), and its operator makes no others: it must be made anew."""

    def __init__(self, error: ConveyorError) -> None:
        super().__init__(error.what)
        self.error = error


@dataclass
class JobWatch:
    """Follows one Job. `timeout_s` is what a pod has to start in; `clock`, `wall` and `pause` are for tests."""

    cluster: Cluster
    kind: Kind
    name: str
    relay: Relay
    timeout_s: float
    clock: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time
    pause: Callable[[float], None] = time.sleep
    pods: dict[str, Object] = field(default_factory=dict)
    """Every pod that was seen, by uid, as it was last seen: those of a Job past its deadline are deleted."""
    _readers: dict[str, LogReader] = field(default_factory=dict)
    _ends: dict[str, str | None] = field(default_factory=dict)
    """What to tell of a pod's end, by its uid; None once told. One poll late, since the Job's own end says it better."""
    _fallen: dict[str, Object] = field(default_factory=dict)
    """Workers that the last look found ended for good, by uid."""
    _held: bool = False
    """Whether it was told that somebody holds it back."""
    _going_since: float | None = None

    def __post_init__(self) -> None:
        self._patience = Patience(self.timeout_s, self.relay.warning)

    def wait(self) -> Object:
        """Return the finished Job.

        Raises `GivenUp` (`NeverStarted`, where no pod ever began), `WorkersGone`, `JobGone`, or the error that the Job
        ended with.
        """
        try:
            return self._wait()
        finally:
            for reader in self._readers.values():
                reader.stop()
            self.relay.close()

    def _wait(self) -> Object:
        job: Object | None = None
        while True:
            last, job = job, self.cluster.get(self.kind, self.name)
            if job is None or (last is not None and job["metadata"]["uid"] != last["metadata"]["uid"]):
                raise self._gone(last)
            job.setdefault("kind", self.kind.name)
            pods = self._look(job)
            state = state_of(job)
            if state.name != "running":
                self._drain()
            if state.name == "complete":
                return job
            if state.name == "failed":
                raise verdict(job, state, list(self.pods.values()), self._job_events(job))
            if job["metadata"].get("deletionTimestamp"):
                self._see_off(job, pods)
            else:
                self._end_early(job, pods)
                self._check(job, pods)
            self.pause(POLL_S)

    def _see_off(self, job: Object, pods: list[Object]) -> None:
        """It is being deleted, and goes once its pods have gone: tell what keeps them, and do not wait for ever."""
        now = self.clock()
        if self._going_since is None:
            self._going_since = now
            self.relay.info(f"{self.name} is being deleted")
        lost = {
            pod["metadata"]["uid"]: trouble
            for pod in pods
            if (trouble := trouble_of_lost(pod, self.wall())) is not None
        }
        self._patience.bear(lost, now)
        grace_s = max((pod["spec"].get("terminationGracePeriodSeconds") or 0 for pod in pods), default=0)
        if now - self._going_since < GOING_S + grace_s:
            return
        held = next((trouble.error for trouble in lost.values()), None)
        raise StepError(
            f"the {self.kind.name} {self.name} was deleted and does not go away",
            where=place_of_job(job),
            found=held.what if held else None,
            todo=held.todo if held else f"{describe(job)}   says what holds it",
        )

    def _gone(self, last: Object | None) -> Exception:
        """Why it is not there any more: another launcher may have deleted it for what we saw as well."""
        if last is not None and (error := self._over(last)):
            return error
        if self._fallen:
            return self._workers_gone()
        return JobGone(
            f"the {self.kind.name} {self.name} was deleted while it ran",
            where=f"namespace {self.cluster.namespace}",
            todo="run the same command again: it goes on where it stopped",
        )

    def _look(self, job: Object) -> list[Object]:
        """Take in what its pods do now: start reading logs, tell deaths."""
        found = self.cluster.list(POD, labels=selector(job))
        for pod in found:
            uid = pod["metadata"]["uid"]
            self.pods[uid] = pod
            if uid not in self._readers and has_started(pod):
                self._readers[uid] = self._read(pod, job)
            end = end_of_pod(pod)
            # Of a container that cannot be started, and is tried again and again, its trouble tells.
            if end is not None and (phase_of(pod) == "Failed" or has_started(pod)):
                self._tell(job, pod, end)
        return found

    def _read(self, pod: Object, job: Object) -> LogReader:
        step, rank, name = step_of(job), rank_of(pod), pod["metadata"]["name"]

        def take(line: str, at: str) -> None:
            self.relay.line(line, step=step, rank=rank, pod=name if step else "", at=at if step else "")

        def lost(why: str) -> None:
            self.relay.warning(f"the log of pod {name} cannot be read any further: {why}")

        reader = LogReader(self.cluster, name, take, lost)
        reader.start()
        return reader

    def _tell(self, job: Object, pod: Object, end: End) -> None:
        uid = pod["metadata"]["uid"]
        if uid not in self._ends:
            quiet = end.exit_code in ENDED_QUIETLY or ends_all(job, end.exit_code)
            # An MPIJob has no such rule.
            note = " (does not count against the Job)" if end.disrupted and not is_mpi(job) else ""
            self._ends[uid] = None if quiet else f"pod {pod['metadata']['name']} {end.how}{note}"
            return
        words = self._ends[uid]
        if words is not None and not is_failing(job):
            self._ends[uid] = None
            self.relay.warning(words)

    def _end_early(self, job: Object, pods: list[Object]) -> None:
        """An MPIJob has no podFailurePolicy, a deadline of its launcher only, and workers that stay dead."""
        error = self._over(job)
        if error is not None:
            self._drain()
            self.cluster.delete(self.kind, self.name, uid=job["metadata"]["uid"])
            raise error
        dead = [] if is_queued(job) else fallen_workers(job, pods)
        fallen = {pod["metadata"]["uid"]: pod for pod in dead}
        # Looked at twice: at its end, the workers are taken away a moment before the MPIJob says that it is complete.
        still = fallen.keys() & self._fallen.keys()
        self._fallen = fallen
        self._ends |= dict.fromkeys(fallen)  # who makes the MPIJob anew tells it
        if still:
            raise self._workers_gone()

    def _over(self, job: Object) -> ConveyorError | None:
        """What ends an MPIJob here: an end of its launcher that no further try can mend, or its deadline."""
        if not is_mpi(job):
            return None
        for pod in self.pods.values():
            end = end_of_pod(pod)
            if end is not None and rank_of(pod) == LAUNCHER and end.exit_code in FOR_GOOD:
                return end.error
        seconds = deadline_of(job)
        if seconds is None or is_queued(job):
            return None
        since = job.get("status", {}).get("startTime") or job["metadata"].get("creationTimestamp")
        if not since or self.wall() - seconds_of(since) < seconds:
            return None
        return verdict(
            job, State("failed", "DeadlineExceeded"), list(self.pods.values()), self._job_events(job)
        )

    def _workers_gone(self) -> WorkersGone:
        pod = next(iter(self._fallen.values()))
        end = end_of_pod(pod)
        name = pod["metadata"]["name"]
        what = (
            f"pod {name} {end.how}" if end is not None else f"pod {name} ended in the middle of the training"
        )
        return WorkersGone(
            StepError(what, where=place(pod), todo=end.error.todo if end is not None else None)
        )

    def _drain(self) -> None:
        end = time.monotonic() + DRAIN_S
        for reader in self._readers.values():
            reader.join(max(0.0, end - time.monotonic()))

    def _check(self, job: Object, pods: list[Object]) -> None:
        """Give up what does not start, after its grace; say at once what it waits for."""
        if is_queued(job):
            self._tell_held("in its queue (it is suspended)")
            self._patience.forget()
            return
        uid = job["metadata"]["uid"]
        found = {pod["metadata"]["uid"]: trouble for pod in pods if (trouble := self._trouble(pod))}
        spared = self._spared(job, pods, found)
        started, wanted = num_started(job, pods), num_wanted(job)
        gated = sum(is_gated(pod) for pod in pods)
        if gated:
            self._tell_held("for its pods' scheduling gates to be taken away")
        if sum(phase_of(pod) != "Failed" for pod in pods) < num_pods(job) or started < wanted:
            events = self._job_events(job)
            if trouble := trouble_of_job(job, list(self.pods.values()), events):
                found[uid] = trouble
            if started + gated < wanted and not found.keys() - spared:
                found[f"{uid}/few"] = too_few(
                    job,
                    made=len(pods),
                    started=started,
                    wanted=wanted,
                    events=events,
                    after_deaths=any(end_of_pod(pod) for pod in self.pods.values()),
                )
        try:
            self._patience.bear(found, self.clock(), spared=spared)
        except GivenUp as given:
            if any(has_started(pod) for pod in self.pods.values()):
                raise
            raise NeverStarted(given.error) from None

    def _tell_held(self, what: str) -> None:
        if not self._held:
            self.relay.info(f"{self.name} waits {what}")
        self._held = True

    def _spared(self, job: Object, pods: list[Object], found: Mapping[str, Trouble]) -> set[str]:
        """Whose troubles do not matter: of the workers (and of making them) while an elastic training has enough."""
        if not is_elastic(job):
            return set()
        workers = {pod["metadata"]["uid"]: pod for pod in pods if is_worker(pod)}
        up = [uid for uid, pod in workers.items() if phase_of(pod) == "Running" and uid not in found]
        if len(up) < fewest_workers(job):
            return set()
        launched = any(rank_of(pod) == LAUNCHER for pod in self.pods.values())
        return {*workers, job["metadata"]["uid"]} if launched else set(workers)

    def _trouble(self, pod: Object) -> Trouble | None:
        lost = trouble_of_lost(pod, self.wall())
        if lost is not None:
            return lost
        return trouble_of_pod(pod, self._events(pod) if phase_of(pod) in ("Pending", "Unknown") else [])

    def _events(self, thing: Object) -> list[Object]:
        """Its events, the oldest first."""
        events = self.cluster.list(EVENT, fields=f"involvedObject.uid={thing['metadata']['uid']}")
        return sorted(events, key=time_of)

    def _job_events(self, job: Object) -> list[Object]:
        """The Job's events; an MPIJob's launcher is a Job of its own, and why it has no pod is said of that one."""
        events = self._events(job)
        launcher = self.cluster.get(JOB, f"{self.name}-{LAUNCHER}") if is_mpi(job) else None
        return sorted([*events, *self._events(launcher)], key=time_of) if launcher is not None else events
