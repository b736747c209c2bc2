"""What a launcher makes of Jobs that do not go well; the store, the keys and the objects are the real ones."""

import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import create_model

from components.cluster import launch, release
from components.cluster.api import JOB, MPI_JOB, Kind
from components.cluster.config import KubernetesConfig, TrainingConfig
from components.cluster.launch import Launcher, pod_environment
from components.cluster.names import TEMPLATE
from components.cluster.objects import Ensured, ensure_job
from components.cluster.release import give_up
from components.common.errors import ConveyorError, StepError
from components.common.progress import QuietReporter
from components.common.sections import RootBase, StoreSection
from components.common.step import Outcome, execute
from support.cluster_memory import NAME, Object, World
from support.dummy import run as dummy
from support.dummy.config import DummyConfig

OURS = {"apiVersion": "batch/v1", "kind": "Job", "name": "conveyor-run-a", "uid": "ours"}
THEIRS = {**OURS, "name": "conveyor-run-b", "uid": "theirs"}


class Training:
    """The dummy step by the name of training, launched in a world in memory."""

    def __init__(self, world: World, folder: Path, **training: Any) -> None:
        self.world = world
        self.program: Any = types.ModuleType(dummy.__name__)
        self.program.__dict__.update(vars(dummy), NAME="train", __name__=dummy.__name__)
        root: Any = create_model("Root", __base__=RootBase, train=(DummyConfig, DummyConfig()))
        self.config: RootBase = root(
            store=StoreSection(url=str(folder)),
            kubernetes=KubernetesConfig(training=TrainingConfig(**training)),
        )
        self.store = self.config.store.open()

    def publish(self) -> None:
        """As the pods do."""
        with pod_environment("train", self.config.kubernetes):
            execute(self.program, self.config.section("train"), dummy.Inputs(), self.store, QuietReporter())

    def launch(self) -> Outcome:
        cluster: Any = self.world
        launcher = Launcher(cluster, owners=(OURS,))
        return launcher.run(
            self.program, self.config, dummy.Inputs(), self.store, self.world.reporter, run_id="r1"
        )


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    found = World()
    found.be_watched_by(launch, monkeypatch)
    return found


def evicted_worker(world: World) -> None:
    world.pod("w-0", "Failed", role="worker", reason="Evicted", message="low on memory")
    world.pod("w-1", role="worker")


def test_an_mpi_job_with_an_evicted_worker_is_made_anew_and_ends_well(world: World, tmp_path: Path) -> None:
    training = Training(world, tmp_path, kind="mpi-job", pods=2)
    made: list[Object] = []

    def created(job: Object) -> None:
        if job["kind"] != "MPIJob":
            return
        made.append(job)
        if len(made) < 3:
            evicted_worker(world)
        else:
            training.publish()
            job["status"] = {"conditions": [{"type": "Succeeded", "status": "True"}]}

    world.on_create = created
    outcome = training.launch()
    assert outcome.state == "done"
    assert len({job["metadata"]["uid"] for job in made}) == 3
    assert "pod w-0 was evicted: low on memory; the operator does not replace it" in world.said
    assert "(2 of 10)" in world.said
    assert world.said.count("was evicted") == 2


def test_making_it_anew_has_its_end(world: World, tmp_path: Path) -> None:
    training = Training(world, tmp_path, kind="mpi-job", pods=2, max_attempts=2)
    world.on_create = lambda job: evicted_worker(world) if job["kind"] == "MPIJob" else None
    with pytest.raises(StepError, match="w-0 was evicted") as failed:
        training.launch()
    assert "after 3 tries (kubernetes.training.max_attempts)" in str(failed.value.where)
    assert len(world.deleted) == 3
    assert not [key for key in world.objects if key[0] == "MPIJob"]


def stuck(world: World, *, joined: bool) -> Callable[[Object], None]:
    def created(job: Object) -> None:
        if job["kind"] == "Job":
            world.pod("p-0")
            world.unschedulable("p-1")
            if joined:
                job["metadata"]["ownerReferences"] = [OURS, THEIRS]

    return created


def failure(training: Training) -> ConveyorError:
    with pytest.raises(ConveyorError) as failed:
        training.launch()
    return failed.value


def test_a_training_that_is_given_up_half_way_holds_nothing(world: World, tmp_path: Path) -> None:
    world.on_create = stuck(world, joined=False)
    error = failure(Training(world, tmp_path, pods=2))
    assert "no node takes the pod, for 300 s now" in error.what
    assert "the Job was deleted, so that it holds nothing" in str(error.todo)
    assert len(world.deleted) == 1
    assert world.deleted[0].startswith("Job conveyor-train-")


def test_a_job_that_others_follow_is_left_to_them(world: World, tmp_path: Path) -> None:
    world.on_create = stuck(world, joined=True)
    error = failure(Training(world, tmp_path, pods=2))
    assert "the Job is left to the other launchers that follow it" in str(error.todo)
    assert world.deleted == []
    job = next(found for (kind, _), found in world.objects.items() if kind == "Job")
    assert job["metadata"]["ownerReferences"] == [THEIRS]


def test_a_job_that_could_not_be_deleted_is_told(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.on_create = stuck(world, joined=False)
    monkeypatch.setattr(release, "PAUSE_S", 0.0)
    monkeypatch.setattr(world, "delete", lambda *_, **__: False)  # it changes at every moment
    error = failure(Training(world, tmp_path, pods=2))
    assert "no node takes the pod" in error.what
    (name,) = [name for kind, name in world.objects if kind == "Job"]
    assert "the Job is still there, and holds what it holds" in str(error.todo)
    assert f"kubectl -n ns delete job {name}" in str(error.todo)


def test_training_goes_on_as_the_kind_that_it_began_as(world: World, tmp_path: Path) -> None:
    """`kubernetes.training.kind` was changed while a run was under way."""
    first = Training(world, tmp_path, pods=2)
    started: list[Object] = []

    def begun(body: Object) -> None:
        if body["kind"] == "Job":
            started.append(body)
            world.pod("p-0")
            world.pod("p-1")
            raise Cut

    world.on_create = begun
    with pytest.raises(Cut):
        first.launch()  # its launcher is killed at this point, say
    (job,) = started
    job["metadata"]["ownerReferences"] = [THEIRS]
    second = Training(world, tmp_path, kind="mpi-job", pods=2)

    def end() -> None:
        second.publish()
        job["status"] = {"conditions": [{"type": "Complete", "status": "True"}]}

    world.at[5] = end
    assert second.launch().state == "done"
    assert not [name for kind, name in world.objects if kind == "MPIJob"]
    assert f"train: adopted Job {job['metadata']['name']}" in world.said
    assert job["metadata"]["ownerReferences"] == [THEIRS, OURS]


class Cut(Exception):
    """The launcher's end."""


def test_who_is_replaced_by_one_of_the_other_kind_joins_it(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = Training(world, tmp_path, kind="mpi-job", pods=2)
    monkeypatch.setattr(launch, "REPLACED_S", 1.0)
    find, name = world.find, ""
    looks = 0

    def replaced() -> None:
        nonlocal name
        (name,) = [name for kind, name in world.objects if kind == "MPIJob"]
        world.delete(MPI_JOB, name)

    def made_in_its_place(kind: Kind, wanted: str) -> Object | None:
        nonlocal looks
        looks += bool(name)
        if looks == 5:  # not at once
            body = {"metadata": {"name": name, "ownerReferences": [THEIRS]}, "spec": {"parallelism": 2}}
            world.create(JOB, {**body, "kind": "Job", "status": {}})
        return find(kind, wanted)

    def end() -> None:
        training.publish()
        world.objects["Job", name]["status"] = {"conditions": [{"type": "Complete", "status": "True"}]}

    monkeypatch.setattr(world, "find", made_in_its_place)
    world.at |= {3: replaced, 9: end}
    assert training.launch().state == "done"
    assert f"train: adopted Job {name}" in world.said
    # It has not started yet, and is joined all the same: two launchers do not replace each other's for ever.
    assert world.deleted == [f"MPIJob {name}"]


def test_a_job_that_somebody_deletes_ends_the_run(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "REPLACED_S", 0.05)
    world.at[3] = lambda: world.delete(JOB, next(name for kind, name in world.objects if kind == "Job"))
    assert "was deleted while it ran" in failure(Training(world, tmp_path, pods=2)).what
    assert not [name for kind, name in world.objects if kind == "Job"]


def body(kind: str, *, template: str = "t1") -> Object:
    metadata = {"name": NAME, "annotations": {TEMPLATE: template}, "ownerReferences": [THEIRS]}
    return {"kind": kind, "metadata": metadata, "spec": {}}


def ensured(world: World, kind: Kind, *, template: str = "t1") -> Ensured:
    cluster: Any = world
    wanted = body(kind.name, template=template)
    return ensure_job(cluster, kind, wanted, world.relay, replace_finished=False, replace_other=True)


def test_an_mpi_job_with_evicted_workers_is_joined_and_a_failed_one_replaced(world: World) -> None:
    job = world.mpi_job()
    job["metadata"] |= {"annotations": {TEMPLATE: "t1"}, "ownerReferences": [OURS]}
    evicted = {"type": "Failed", "status": "True", "reason": "MPIJobEvicted"}
    job["status"] = {"conditions": [evicted]}
    assert not ensured(world, MPI_JOB).created
    assert job["metadata"]["ownerReferences"] == [OURS, THEIRS]
    job["status"] = {"conditions": [{**evicted, "reason": "BackoffLimitExceeded/"}]}
    assert ensured(world, MPI_JOB).created
    assert f"MPIJob {NAME} had failed and is started anew" in world.said


def test_a_job_of_another_template_is_replaced_only_if_it_never_began(world: World) -> None:
    job = world.job()
    job["metadata"]["annotations"] = {TEMPLATE: "t1"}
    world.pod("p-0")
    assert not ensured(world, JOB, template="t2").created
    del world.objects["Pod", "p-0"]
    # By Kubernetes' word it runs; its program is not there, so it never began.
    last = {"terminated": {"exitCode": 128, "reason": "StartError"}}
    statuses = [{"name": "conveyor", "state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": last}]
    world.pod("p-1", containerStatuses=statuses)
    assert ensured(world, JOB, template="t2").created


def test_the_last_one_who_gives_up_takes_the_job_with_it(world: World) -> None:
    cluster: Any = world
    job = world.mpi_job()
    job["metadata"]["ownerReferences"] = [OURS, THEIRS]
    assert give_up(cluster, job, (OURS,)) == "left to others"
    assert give_up(cluster, job, (THEIRS,)) == "deleted"
    assert world.get(MPI_JOB, job["metadata"]["name"]) is None
    # One that somebody made in its place in the meantime is spared.
    other = world.job()
    assert give_up(cluster, {**other, "metadata": {**other["metadata"], "uid": "before"}}) == "deleted"
    assert world.get(JOB, other["metadata"]["name"]) is other
