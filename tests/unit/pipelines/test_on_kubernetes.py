"""A run handed over to a cluster and followed from afar: what becomes of its Job when its pod does not start."""

from collections.abc import Callable

import pytest

from components.common.errors import StepError
from components.common.sections import RootBase, StoreSection
from pipelines.on_kubernetes import submit as submitting
from pipelines.on_kubernetes.submit import Submitted, submit
from support.cluster_memory import Object, World

JOB = "conveyor-run-r1"
AGAIN = ("conveyor", "run", "--on", "kubernetes", "-f", "my.yaml")
FOLLOW = "conveyor run --on kubernetes -f my.yaml --run r1   follows it again"
STOP = f"kubectl -n ns delete job {JOB}   stops it, with its steps"


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    found = World()
    found.be_watched_by(submitting, monkeypatch)
    monkeypatch.setattr(submitting, "connect", lambda **_: found)
    return found


def run(world: World, *, detach: bool = False) -> Submitted:
    config = RootBase(store=StoreSection(url="s3://bucket/conveyor"))
    return submit(["run"], config, world.reporter, run_id="r1", detach=detach, again=AGAIN)


def for_jobs(make: Callable[[], object]) -> Callable[[Object], object]:
    return lambda body: make() if body["kind"] == "Job" else None


def test_a_launcher_that_never_started_leaves_nothing(world: World) -> None:
    world.on_create = for_jobs(lambda: world.unschedulable("p-0"))
    with pytest.raises(StepError, match="no node takes the pod, for 300 s now") as given:
        run(world)
    assert world.deleted == [f"Job {JOB}"]
    assert "follows it again" not in str(given.value.todo)


def test_a_launcher_that_had_begun_stays_and_it_is_said_how_to_go_on(world: World) -> None:
    world.on_create = for_jobs(lambda: world.pod("p-0"))

    def drained() -> None:
        del world.objects["Pod", "p-0"]
        world.unschedulable("p-1")

    world.at[100] = drained
    done = run(world)
    assert world.deleted == []
    assert done.exit_code == 3
    assert done.error is not None
    assert "no node takes the pod" in done.error.what
    todo = str(done.error.todo)
    assert todo.startswith("ask for less (kubernetes.resources)")
    assert todo.endswith(f"the run stays in the cluster, and goes on once this is cured: {FOLLOW}; {STOP}")


def test_who_follows_a_run_of_before_never_deletes_it(world: World) -> None:
    run(world, detach=True)
    # The launcher's pod was drained, and its object is gone: by the look of it, none ever began.
    world.unschedulable("p-1")
    done = run(world)
    assert world.deleted == []
    assert done.error is not None
    assert "no node takes the pod, for 300 s now" in done.error.what
    assert str(done.error.todo).endswith(f"{FOLLOW}; {STOP}")
