"""A Job followed second by second: when it is given up, and what is never given up; two launchers of one Job."""

import pytest

from components.cluster import follow
from components.cluster.api import JOB, MPI_JOB
from components.cluster.follow import JobGone
from components.cluster.patience import GivenUp, NeverStarted
from components.common.errors import InputError, StepError
from support.cluster_memory import NAME, Object, World, crash, stamp, workers


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(follow, "DRAIN_S", 0.0)  # the logs of this world have no end
    return World()


# Two launchers of one Job.


def end_for_good(pod: Object) -> None:
    terminated = {"exitCode": 76, "reason": "Error", "message": '{"what": "it diverged", "exit_code": 3}'}
    statuses = [{"name": "conveyor", "state": {"terminated": terminated}}]
    pod["status"] = {"phase": "Failed", "containerStatuses": statuses}


def test_what_ends_an_mpi_job_s_launcher_for_good_ends_the_mpi_job(world: World) -> None:
    world.mpi_job()
    workers(world)
    pod = world.pod(f"{NAME}-launcher", role="launcher")
    world.at[10] = lambda: end_for_good(pod)
    with pytest.raises(StepError, match="it diverged"):
        world.watch(MPI_JOB).wait()
    assert world.deleted == [f"MPIJob {NAME}"]


def test_a_launcher_whose_mpi_job_another_one_ended_says_why(world: World) -> None:
    job = world.mpi_job()
    workers(world)
    pod = world.pod(f"{NAME}-launcher", role="launcher")

    def ended_by_another() -> None:
        end_for_good(pod)
        job["metadata"]["deletionTimestamp"] = stamp(10)

    world.at[10] = ended_by_another
    world.at[12] = world.objects.clear
    with pytest.raises(StepError, match="it diverged"):
        world.watch(MPI_JOB).wait()
    assert world.deleted == []


def test_a_job_that_somebody_deleted(world: World) -> None:
    world.job()
    world.pod("p-0")
    world.at[10] = world.objects.clear
    with pytest.raises(JobGone):
        world.watch(JOB).wait()


def test_a_deleted_job_whose_node_is_off_is_told_and_not_followed_for_ever(world: World) -> None:
    job = world.job()
    pod = world.pod("p-0")
    pod["spec"]["terminationGracePeriodSeconds"] = 600

    def deleted() -> None:
        job["metadata"]["deletionTimestamp"] = stamp(10)
        pod["metadata"]["deletionTimestamp"] = stamp(610)

    world.at[10] = deleted
    told: list[str] = []
    world.at[20] = lambda: told.append(world.said)
    world.at[680] = lambda: told.append(world.said)
    with pytest.raises(StepError, match="the Job conveyor-train-1 was deleted and does not go away") as given:
        world.watch(JOB, timeout_s=20).wait()
    assert not isinstance(given.value, JobGone), "it is still there"
    assert "conveyor-train-1 is being deleted" in told[0]
    assert "the node n1 does not answer" not in told[0]
    assert "waiting: the node n1 does not answer" in told[1]
    assert world.said == told[1]
    assert world.now == pytest.approx(910, abs=2)  # its pod's own time, and five minutes
    assert "the node n1 does not answer" in str(given.value.found)
    assert "kubectl -n ns delete pod p-0 --force" in str(given.value.todo)


def test_a_deleted_job_that_something_else_holds_is_not_followed_for_ever(world: World) -> None:
    world.job()["metadata"]["deletionTimestamp"] = stamp(0)
    with pytest.raises(StepError, match="does not go away") as given:
        world.watch(JOB).wait()
    assert world.now == pytest.approx(300, abs=2)
    assert given.value.todo == "kubectl -n ns describe job conveyor-train-1   says what holds it"


# Patience.


def pulling(world: World, pod: Object) -> None:
    world.event(pod, "Pulling", 'Pulling image "conveyor:x"')


def test_a_pod_whose_image_took_long_has_all_its_time_from_then_on(world: World) -> None:
    job = world.job()
    pod = world.pod("p-0", "Pending")
    pulling(world, pod)
    world.at[600] = lambda: world.event(pod, "Pulled", 'Successfully pulled image "conveyor:x"')

    def runs() -> None:
        pod["status"]["phase"] = "Running"
        world.at[900] = lambda: job["status"].update(conditions=[{"type": "Complete", "status": "True"}])

    world.at[890] = runs
    assert world.watch(JOB).wait() is job
    assert world.said == "", "nothing was wrong"


def test_a_pod_that_does_not_start_after_its_image_came_is_given_up(world: World) -> None:
    world.job()
    pod = world.pod("p-0", "Pending")
    pulling(world, pod)
    world.at[600] = lambda: world.event(pod, "Pulled", 'Successfully pulled image "conveyor:x"')
    with pytest.raises(NeverStarted, match="the pod does not start, for 300 s now"):
        world.watch(JOB).wait()
    assert world.now == pytest.approx(900, abs=2)


def test_an_image_that_never_comes_is_given_up(world: World) -> None:
    world.job()
    pulling(world, world.pod("p-0", "Pending"))
    with pytest.raises(NeverStarted, match="the pod's image is still being pulled, for 1800 s now"):
        world.watch(JOB).wait()
    assert world.said == ""


def test_a_container_that_runs_for_a_moment_between_its_deaths_is_still_in_trouble(world: World) -> None:
    world.mpi_job()
    pod, other = workers(world)
    crash(pod)
    state = pod["status"]["containerStatuses"][0]["lastState"]["terminated"]
    state["reason"], state["exitCode"] = "Error", 255  # sshd itself: no quick end, since it might be cured

    def runs_for_a_moment() -> None:
        saved = pod["status"]["containerStatuses"]
        pod["status"]["containerStatuses"] = [{"name": "conveyor", "state": {"running": {}}}]

        def again() -> None:
            pod["status"]["containerStatuses"] = saved

        world.at[int(world.now) + 2] = again
        world.at[int(world.now) + 60] = runs_for_a_moment

    world.at[60] = runs_for_a_moment
    with pytest.raises(GivenUp, match="ends as soon as it is started") as given:
        world.watch(MPI_JOB).wait()
    assert not isinstance(given.value, NeverStarted)
    assert world.now == pytest.approx(300, abs=5)
    assert other["status"]["phase"] == "Running"


def test_nothing_is_given_up_while_it_waits_in_its_queue(world: World) -> None:
    job = world.job(suspend=True)
    world.at[4000] = lambda: job["status"].update(conditions=[{"type": "Complete", "status": "True"}])
    assert world.watch(JOB).wait() is job
    assert "waits in its queue" in world.said


def gate(world: World, name: str) -> Object:
    why = {"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}
    return world.pod(name, "Pending", conditions=[why])


def test_nothing_is_given_up_while_its_pods_are_held_back(world: World) -> None:
    job = world.job(pods=2)
    first, second = gate(world, "p-0"), gate(world, "p-1")

    def let_go() -> None:
        for pod in (first, second):
            pod["status"] = {"phase": "Running"}

    world.at[4000] = let_go
    world.at[4100] = lambda: job["status"].update(conditions=[{"type": "Complete", "status": "True"}])
    assert world.watch(JOB).wait() is job
    assert world.said.count("waits for its pods' scheduling gates to be taken away") == 1


def test_a_pod_that_is_not_made_beside_one_that_is_held_back_is_missed(world: World) -> None:
    world.job(pods=2)
    gate(world, "p-0")
    with pytest.raises(NeverStarted, match="0 of 2 pods have started, for 300 s now"):
        world.watch(JOB).wait()


def test_no_pod_at_all(world: World) -> None:
    world.job()
    with pytest.raises(NeverStarted) as given:
        world.watch(JOB, timeout_s=20).wait()
    assert given.value.error.what == "no pod was made, for 20 s now (kubernetes.start_timeout_s)"
    assert not isinstance(given.value.error, InputError)
