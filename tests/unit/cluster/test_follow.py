"""An MPIJob followed second by second: what keeps it from starting, and which deaths of its pods it outlives."""

import pytest

from components.cluster import follow
from components.cluster.api import JOB, MPI_JOB
from components.cluster.follow import WorkersGone
from components.cluster.patience import GivenUp, NeverStarted
from components.common.errors import StepError
from support.cluster_memory import NAME, Object, World, crash, stamp, workers


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(follow, "DRAIN_S", 0.0)  # the logs of this world have no end
    return World()


def succeed(job: Object) -> None:
    job["status"]["conditions"] = [{"type": "Succeeded", "status": "True"}]


def evict(pod: Object) -> None:
    pod["status"] = {
        "phase": "Failed",
        "reason": "Evicted",
        "message": "The node was low on resource: memory.",
    }


# What an MPIJob does not start for.


def test_an_image_without_sshd_is_told_within_a_minute(world: World) -> None:
    world.mpi_job()
    for pod in workers(world):
        crash(pod)
    with pytest.raises(NeverStarted) as given:
        world.watch(MPI_JOB).wait()
    assert given.value.error.what == "the image has no ssh server"
    assert world.now < 60
    assert world.said.count("ssh server") == 1, "one piece of news, of however many pods"


def test_a_quota_that_lets_in_some_of_the_workers(world: World) -> None:
    job = world.mpi_job()
    workers(world, up=1)
    world.event(job, "MPIJobFailed", 'worker pod created failed: pods "w" is forbidden: exceeded quota: q')
    with pytest.raises(GivenUp) as given:
        world.watch(MPI_JOB).wait()
    assert "quota leaves no room for its pods, for 300 s now" in given.value.error.what
    assert world.now == pytest.approx(300, abs=5)


def test_what_is_said_of_the_launcher_s_own_job_is_heard(world: World) -> None:
    world.mpi_job()
    workers(world)
    launcher = world.add(JOB, f"{NAME}-launcher", spec={}, status={})
    world.event(launcher, "FailedCreate", 'pods "l" is forbidden: violates PodSecurity "restricted:latest"')
    with pytest.raises(GivenUp) as given:
        world.watch(MPI_JOB).wait()
    assert given.value.error.what == "the namespace's Pod Security refuses its pods"
    assert world.now < 30


def test_an_operator_that_does_nothing_is_not_waited_for(world: World) -> None:
    world.mpi_job()
    workers(world)  # and never a launcher
    with pytest.raises(GivenUp) as given:
        world.watch(MPI_JOB).wait()
    error = given.value.error
    assert error.what == "2 of 3 pods have started, for 300 s now (kubernetes.start_timeout_s)"
    assert "kubectl -n ns describe mpijob conveyor-train-1" in str(error.todo)


def test_a_job_controller_s_back_off_is_waited_out(world: World) -> None:
    world.job(pods=2)
    world.pod("p-0")
    died = world.pod("p-1", "Failed")
    died["status"]["containerStatuses"] = [
        {"name": "conveyor", "state": {"terminated": {"exitCode": 3, "reason": "Error"}}}
    ]
    with pytest.raises(GivenUp) as given:
        world.watch(JOB).wait()
    assert "1 of 2 pods have started, for 900 s now" in given.value.error.what


def test_an_mpi_job_past_its_deadline_is_ended(world: World) -> None:
    world.mpi_job(deadline_s=1000)
    workers(world)
    world.pod(f"{NAME}-launcher", role="launcher")
    with pytest.raises(StepError, match="longer than its deadline of 1000 s"):
        world.watch(MPI_JOB).wait()
    assert world.now == pytest.approx(1000, abs=2)
    assert world.deleted == [f"MPIJob {NAME}"]


# Elastic training.


def test_an_elastic_training_goes_on_without_a_worker_that_no_node_takes(world: World) -> None:
    job = world.mpi_job(workers=3, fewest=2)
    workers(world)
    world.pod(f"{NAME}-launcher", role="launcher")
    world.unschedulable(f"{NAME}-worker-2", role="worker")
    world.at[5000] = lambda: succeed(job)
    assert world.watch(MPI_JOB).wait() is job
    assert world.said.count("the training goes on without a pod: no node takes the pod") == 1


def test_an_elastic_training_with_too_few_workers_is_given_up(world: World) -> None:
    world.mpi_job(workers=3, fewest=2)
    first, _ = workers(world)
    world.pod(f"{NAME}-launcher", role="launcher")
    world.unschedulable(f"{NAME}-worker-2", role="worker")

    def lose_one() -> None:
        del world.objects["Pod", first["metadata"]["name"]]
        world.unschedulable(first["metadata"]["name"], role="worker")

    world.at[1000] = lose_one
    with pytest.raises(GivenUp, match="no node takes the pod"):
        world.watch(MPI_JOB).wait()
    assert world.now == pytest.approx(1300, abs=5)  # counted from when there were too few


def test_an_elastic_training_that_lost_its_last_spare_worker_is_made_anew(world: World) -> None:
    world.mpi_job(workers=2, fewest=1)
    first, second = workers(world)
    world.pod(f"{NAME}-launcher", role="launcher")
    world.at[10] = lambda: evict(first)
    world.at[600] = lambda: evict(second)
    with pytest.raises(WorkersGone, match="was evicted: The node was low on resource"):
        world.watch(MPI_JOB).wait()
    assert world.now == pytest.approx(601, abs=2)


def test_a_worker_that_only_seems_to_run_is_not_counted(world: World) -> None:
    world.mpi_job(workers=3, fewest=2)
    crash(workers(world)[0])
    world.pod(f"{NAME}-launcher", role="launcher")
    world.unschedulable(f"{NAME}-worker-2", role="worker")
    with pytest.raises(GivenUp, match="the image has no ssh server"):
        world.watch(MPI_JOB).wait()


def test_a_spare_worker_s_eviction_is_told_and_training_goes_on(world: World) -> None:
    job = world.mpi_job(workers=2, fewest=1)
    first, _ = workers(world)
    world.pod(f"{NAME}-launcher", role="launcher")

    def evicted() -> None:
        evict(first)
        job["status"]["conditions"] = [{"type": "Failed", "status": "True", "reason": "MPIJobEvicted"}]

    world.at[10] = evicted
    told: list[str] = []
    world.at[20] = lambda: told.append(world.said)
    world.at[2000] = lambda: succeed(job)
    assert world.watch(MPI_JOB).wait() is job
    assert f"pod {NAME}-worker-0 was evicted: The node was low" in told[0]
    assert world.said == told[0]


# Workers that stay dead, nodes that do not answer.


@pytest.mark.parametrize("launched", [False, True])
def test_an_evicted_worker_makes_the_mpi_job_anew(world: World, launched: bool) -> None:
    job = world.mpi_job()
    first, _ = workers(world)
    if launched:
        world.pod(f"{NAME}-launcher", role="launcher")

    def evicted() -> None:
        evict(first)
        job["status"]["conditions"] = [{"type": "Failed", "status": "True", "reason": "MPIJobEvicted"}]

    world.at[100] = evicted
    with pytest.raises(WorkersGone, match=f"pod {NAME}-worker-0 was evicted"):
        world.watch(MPI_JOB).wait()
    assert world.now == pytest.approx(101, abs=2)


def test_an_mpi_job_that_another_launcher_makes_anew_is_not_missed(world: World) -> None:
    world.mpi_job()
    first, _ = workers(world)
    world.at[10] = lambda: evict(first)
    world.at[11] = world.objects.clear
    with pytest.raises(WorkersGone):
        world.watch(MPI_JOB).wait()


def test_workers_that_are_taken_away_at_the_end_are_not_missed(world: World) -> None:
    job = world.mpi_job()
    pods = workers(world)
    world.pod(f"{NAME}-launcher", role="launcher")

    def over() -> None:
        for pod in pods:
            pod["status"]["phase"] = "Succeeded"
        world.at[6] = lambda: succeed(job)

    world.at[5] = over
    assert world.watch(MPI_JOB).wait() is job


def test_a_node_that_does_not_answer_is_told_at_once_and_waited_for(world: World) -> None:
    job = world.job(pods=2)
    world.pod("p-0")
    lost = world.pod("p-1")
    lost["metadata"]["deletionTimestamp"] = stamp(100)
    world.at[5000] = lambda: job["status"].update(conditions=[{"type": "Complete", "status": "True"}])
    world.at[165] = lambda: told.append(world.said)
    told: list[str] = []
    world.watch(JOB).wait()
    assert "waiting: the node n1 does not answer; its pod cannot be replaced" in told[0]
    assert "kubectl -n ns delete pod p-1 --force" in told[0]
    assert world.said == told[0]
