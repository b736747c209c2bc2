"""A Job followed second by second: what is told, when it is given up, and what is never given up."""

import pytest

from components.cluster import follow
from components.cluster.api import JOB, MPI_JOB
from components.cluster.follow import JobGone, WorkersGone
from components.cluster.patience import GivenUp, NeverStarted
from components.common.errors import InputError, StepError
from support.cluster_memory import NAME, Object, World, stamp


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(follow, "DRAIN_S", 0.0)  # the logs of this world have no end
    return World()


def succeed(job: Object) -> None:
    job["status"]["conditions"] = [{"type": "Succeeded", "status": "True"}]


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
