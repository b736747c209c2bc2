"""A cluster in memory with a clock of its own: what the API server says is what a test put there for that second."""

import io
import itertools
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from types import ModuleType
from typing import Any

import pytest

from components.cluster import follow
from components.cluster.api import EVENT, JOB, MPI_JOB, POD, Kind
from components.cluster.follow import JobWatch
from components.cluster.relay import Relay
from components.common.progress import LineReporter

Object = dict[str, Any]

BEGIN_S = 1_790_000_000.0
NAME = "conveyor-train-1"


def stamp(second: float) -> str:
    return datetime.fromtimestamp(BEGIN_S + second, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class World:
    """Stands for `Cluster`. `at` has what happens, by second; time passes when the watch pauses."""

    namespace = "ns"

    def __init__(self) -> None:
        self.now = 0.0
        self.objects: dict[tuple[str, str], Object] = {}
        self.events: list[Object] = []
        self.deleted: list[str] = []
        self.at: dict[int, Callable[[], object]] = {}
        self.on_create: Callable[[Object], object] = lambda body: None
        self._uids = itertools.count(1)
        self._said = io.StringIO()
        self.reporter = LineReporter(self._said)
        self.relay = Relay(self.reporter)

    @property
    def said(self) -> str:
        """What a person would have read so far."""
        return self._said.getvalue()

    # What a test says.

    def add(self, kind: Kind, name: str, **parts: Any) -> Object:
        metadata = {
            "name": name,
            "namespace": self.namespace,
            "uid": f"uid-{next(self._uids)}",
            "resourceVersion": "1",
            "creationTimestamp": stamp(self.now),
            **parts.pop("metadata", {}),
        }
        found = {"kind": kind.name, "metadata": metadata, **parts}
        self.objects[kind.name, name] = found
        return found

    def job(self, *, pods: int = 1, **spec: Any) -> Object:
        return self.add(JOB, NAME, spec={"parallelism": pods, **spec}, status={})

    def mpi_job(
        self, *, workers: int = 2, fewest: int | None = None, deadline_s: int | None = None
    ) -> Object:
        env = [{"name": "CONVEYOR_TRAIN_MIN_PODS", "value": str(fewest)}] if fewest else []
        template = {"spec": {"containers": [{"name": "conveyor", "env": env}]}}
        policy = {"activeDeadlineSeconds": deadline_s} if deadline_s else {}
        replicas = {"Launcher": {"template": template}, "Worker": {"replicas": workers}}
        return self.add(MPI_JOB, NAME, spec={"runPolicy": policy, "mpiReplicaSpecs": replicas}, status={})

    def pod(self, name: str, phase: str = "Running", *, role: str | None = None, **status: Any) -> Object:
        labels = {"training.kubeflow.org/job-role": role} if role else {}
        state = {"Running": {"running": {}}, "Succeeded": {"terminated": {"exitCode": 0}}}.get(phase)
        if state:
            status.setdefault("containerStatuses", [{"name": "conveyor", "state": state}])
        spec = {"nodeName": "n1", "containers": [{"name": "conveyor"}]}
        return self.add(POD, name, metadata={"labels": labels}, spec=spec, status={"phase": phase, **status})

    def unschedulable(self, name: str, *, role: str | None = None) -> Object:
        why = {"type": "PodScheduled", "status": "False", "message": "0/1 nodes are available"}
        return self.pod(name, "Pending", role=role, conditions=[why])

    def event(self, thing: Object, reason: str, message: str) -> None:
        found = {"metadata": {}, "reason": reason, "message": message, "type": "Warning"}
        self.events.append({**found, "lastTimestamp": stamp(self.now), "of": thing["metadata"]["uid"]})

    def watch(self, kind: Kind, *, timeout_s: float = 300) -> JobWatch:
        return self.job_watch(self, kind, NAME, self.relay, timeout_s)

    @property
    def job_watch(self) -> Callable[..., JobWatch]:
        """`JobWatch` by this world's clock."""
        return partial(JobWatch, clock=lambda: self.now, wall=lambda: BEGIN_S + self.now, pause=self.sleep)

    def be_watched_by(self, module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
        """What `module` follows goes by this world's clock, and its logs, which have no end, are not waited for."""
        monkeypatch.setattr(follow, "DRAIN_S", 0.0)
        monkeypatch.setattr(module, "JobWatch", self.job_watch)

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        for second in [second for second in sorted(self.at) if second <= self.now]:
            self.at.pop(second)()
        assert self.now < 20_000, "it is followed for ever"

    # What `Cluster` does.

    def get(self, kind: Kind, name: str) -> Object | None:
        return self.objects.get((kind.name, name))

    def find(self, kind: Kind, name: str) -> Object | None:
        return self.get(kind, name)

    def list(self, kind: Kind, *, labels: str = "", fields: str = "") -> "list[Object]":
        if kind is EVENT:
            return [event for event in self.events if fields.endswith(f"={event['of']}")]
        assert labels
        return [found for (name, _), found in self.objects.items() if name == kind.name]

    def create(self, kind: Kind, body: Object) -> Object | None:
        if (kind.name, body["metadata"]["name"]) in self.objects:
            return None
        parts = {name: part for name, part in body.items() if name != "kind"}
        found = self.add(kind, body["metadata"]["name"], **parts)
        self.on_create(found)
        return found

    def patch(self, kind: Kind, name: str, body: Object) -> Object | None:
        found = self.objects[kind.name, name]
        assert body["metadata"]["resourceVersion"] == found["metadata"]["resourceVersion"]
        found["metadata"] |= body["metadata"]
        return found

    def delete(self, kind: Kind, name: str, *, uid: str | None = None, version: str | None = None) -> bool:
        found = self.objects.get((kind.name, name))
        if found is not None and uid in (None, found["metadata"]["uid"]):
            if version not in (None, found["metadata"]["resourceVersion"]):
                return False
            self.deleted.append(f"{kind.name} {name}")
            del self.objects[kind.name, name]
            if kind in (JOB, MPI_JOB):
                self.objects = {key: item for key, item in self.objects.items() if key[0] != POD.name}
        return True

    def logs(self, _pod: str, **_options: Any) -> Iterator[bytes]:
        return iter(())


def workers(world: World, *, up: int = 2) -> list[Object]:
    return [world.pod(f"{NAME}-worker-{index}", role="worker") for index in range(up)]


def crash(pod: Object) -> None:
    last = {
        "terminated": {
            "exitCode": 128,
            "reason": "StartError",
            "message": 'exec: "/usr/sbin/sshd": no such file',
        }
    }
    state = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}}
    pod["status"]["containerStatuses"] = [{"name": "conveyor", "state": state, "lastState": last}]
