"""Training in several pods that a Kubeflow run leaves behind when it is terminated: who deletes it, and who keeps it."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from components.cluster import leftover
from components.cluster.api import JOB, MPI_JOB, POD, Cluster, Kind
from components.cluster.leftover import end_training
from components.cluster.rbac import READ_PODS
from components.common import kubeflow
from components.common.kubeflow import settle_in_pod
from components.common.progress import LineReporter
from support.api_server import ApiServer, Object, serving

RUN = {"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "name": "conveyor-x7k2p", "uid": "ours"}
OTHER_RUN = {**RUN, "name": "conveyor-9fz2q", "uid": "theirs"}
LAUNCHER = {"apiVersion": "batch/v1", "kind": "Job", "name": "conveyor-run-r", "uid": "launcher"}
COMPLETE = {"conditions": [{"type": "Complete", "status": "True"}]}
NAME = "conveyor-train-3f0c92ab51de"
OWN_POD = f"{RUN['name']}-metadata-0-6-retry-system-container-impl-3812345678"
"""As Argo names it: longer than a host name may be."""


class World:
    """A namespace in which the pod of the task that reports has just started."""

    def __init__(self, cluster: Cluster, server: ApiServer) -> None:
        self.cluster = cluster
        self.server = server
        owner = {**RUN, "controller": True, "blockOwnerDeletion": True}
        server.add(POD, {"metadata": {"name": OWN_POD, "ownerReferences": [owner]}})

    def job(
        self, *owners: Object, kind: Kind = JOB, name: str = NAME, run: str = "r", **parts: Any
    ) -> Object:
        labels = {"conveyor/run": run, "conveyor/step": "train"}
        metadata = {"name": name, "labels": labels, "ownerReferences": list(owners)}
        return self.server.add(kind, {"metadata": metadata, "spec": {}, **parts})

    def end(self) -> str:
        """What the task that reports tells of it."""
        said = io.StringIO()
        end_training(None, LineReporter(said))
        return said.getvalue()

    def owners(self, kind: Kind = JOB) -> list[str] | None:
        found = self.server.get(kind, NAME)
        return [owner["uid"] for owner in found["metadata"]["ownerReferences"]] if found else None


@pytest.fixture
def server() -> ApiServer:
    return ApiServer()


@pytest.fixture
def world(server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setenv("HOSTNAME", OWN_POD[:63])
    monkeypatch.setenv("KFP_POD_NAME", OWN_POD)
    monkeypatch.setattr(kubeflow, "PID_FILE", tmp_path / "pid")
    monkeypatch.setenv("CONVEYOR_POD", "")  # so that it is as before in the end
    monkeypatch.delenv("CONVEYOR_POD")
    settle_in_pod()
    with serving(server) as cluster:
        monkeypatch.setattr(leftover, "connect", lambda **_: cluster)
        yield World(cluster, server)


@pytest.mark.parametrize("kind", [JOB, MPI_JOB])
def test_what_only_this_run_trains_is_deleted(world: World, kind: Kind) -> None:
    world.job(RUN, kind=kind)
    said = world.end()
    assert world.owners(kind) is None
    assert f"{kind.name} {NAME} was deleted" in said


@pytest.mark.parametrize("other", [OTHER_RUN, LAUNCHER])
def test_what_another_launcher_has_joined_is_left_to_it(world: World, other: Object) -> None:
    world.job(RUN, other)
    assert f"{NAME} goes on, for the others that follow it" in world.end()
    assert world.owners() == [other["uid"]]


def test_what_another_run_has_made_and_this_one_joined_is_let_go_too(world: World) -> None:
    """The Job's label names its maker. When that has let go, this run is the last that it trains for."""
    world.job(OTHER_RUN, RUN, run="theirs")
    world.end()
    assert world.owners() == ["theirs"]
    world.job(RUN, run="theirs")
    world.end()
    assert world.owners() is None


@pytest.mark.parametrize("owners", [[OTHER_RUN], [LAUNCHER], []])
def test_what_is_not_this_runs_is_not_touched(world: World, owners: list[Object]) -> None:
    before = json.dumps(world.job(*owners, run="r"))
    assert world.end() == ""
    assert json.dumps(world.server.get(JOB, NAME)) == before


def test_a_training_that_has_ended_keeps_its_logs(world: World) -> None:
    world.job(RUN, status=COMPLETE)
    assert world.end() == ""
    assert world.owners() == ["ours"]


def test_who_joins_in_the_same_moment_keeps_it(world: World) -> None:
    job = world.job(RUN)
    joining = [OTHER_RUN]

    def join(verb: str, resource: str, _: str) -> None:
        if (verb, resource) == ("delete", "jobs") and joining:
            world.server.own(job, joining.pop())

    world.server.before = join
    assert "goes on, for the others" in world.end()
    assert world.owners() == ["theirs"]


@pytest.mark.parametrize("server", [ApiServer(kinds=[JOB])])
def test_a_cluster_without_the_mpi_operator(world: World) -> None:
    world.job(RUN)
    assert "was deleted" in world.end()


@pytest.mark.parametrize("server", [ApiServer(rules=READ_PODS)])
def test_an_account_that_cannot_have_launched_anything(world: World) -> None:
    assert world.end() == ""


@pytest.mark.parametrize("server", [ApiServer(rules=())])
def test_whatever_goes_wrong_is_a_warning(world: World) -> None:
    said = world.end()
    assert "the training in other pods may go on" in said
    assert "kubectl get jobs,mpijobs -l conveyor/step=train" in said


def test_outside_a_cluster_nothing_is_asked_for(world: World) -> None:
    world.server.objects.clear()
    world.job(RUN)
    assert world.end() == ""
    assert world.server.asked == [("get", "pods", OWN_POD)]
