"""`conveyor run --on kubernetes` on a real cluster: a whole run, launchers that die or are two, and Ctrl-C."""

import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from support.cluster_world import (
    World,
    delete_namespace,
    fill,
    kubectl,
    make_namespace,
    start_minio,
    wait_until,
    why_no_cluster,
)
from support.small_pipeline import Ended, command, environment

REASON = why_no_cluster()
pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(1500),
    pytest.mark.skipif(REASON is not None, reason=f"no cluster: {REASON}"),
]
STEPS = ["ingest", "preprocess", "train", "evaluate", "compress", "promote"]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = make_namespace("launch")
    try:
        start_minio(made)
        fill(made, tmp_path_factory.mktemp("images"))
        yield made
    finally:
        delete_namespace(made)


def run(world: World, config: Path, *more: str, cwd: Path) -> Ended:
    return world.conveyor("run", "--on", "kubernetes", "-f", config, "--json", *more, cwd=cwd, timeout_s=850)


def steps_of(ended: Ended) -> dict[str, tuple[str, str]]:
    """Step → key and what it produced."""
    return {name: (step["key"], step["output"]) for name, step in ended.json()["steps"].items()}


def launcher_pods(world: World, run_id: str, phase: str = "Running") -> list[dict[str, Any]]:
    found = world.get("pods", f"app.kubernetes.io/component=launcher,conveyor/run={run_id}")
    return [pod for pod in found if pod["status"]["phase"] == phase and not is_going(pod)]


def is_going(thing: dict[str, Any]) -> bool:
    return "deletionTimestamp" in thing["metadata"]


def kill_launcher(world: World, run_id: str, *, once_there_is: str, over: Event) -> None:
    """Wait for the first pod of a step, then kill the launcher's without a word."""
    wait_until(
        f"a pod of {once_there_is}",
        lambda: world.get("pods", f"conveyor/run={run_id},conveyor/step={once_there_is}") or over.is_set(),
        timeout_s=800,
    )
    pods = wait_until("a launcher", lambda: launcher_pods(world, run_id) or over.is_set())
    assert pods is not True, f"the run was over before its launcher could be killed at {once_there_is}"
    (pod,) = pods
    world.kubectl("delete", "pod", pod["metadata"]["name"], "--grace-period=0", "--force")


def test_a_whole_run_with_training_on_two_pods_whose_launcher_is_killed_twice(
    world: World, tmp_path: Path
) -> None:
    config = world.config(
        tmp_path, train={"workers": None, "epochs": 10}, kubernetes=world.kubernetes(training={"pods": 2})
    )
    over = Event()

    def kill() -> None:
        for step in ("train", "compress"):
            kill_launcher(world, "whole", once_there_is=step, over=over)

    with ThreadPoolExecutor(1) as pool:
        killer = pool.submit(kill)
        try:
            ended = run(world, config, "--run", "whole", cwd=tmp_path)
        finally:
            over.set()
    assert ended.status == 0, ended.err
    killer.result()
    result = ended.json()
    assert (result["run"], result["state"], result["promoted"]) == ("whole", "succeeded", True)
    assert list(result["steps"]) == STEPS

    # One Job did each step, however many launchers there were, and each belongs to the run's own.
    jobs = [job for job in world.get("jobs") if "conveyor/step" in job["metadata"]["labels"]]
    assert sorted(job["metadata"]["labels"]["conveyor/step"] for job in jobs) == sorted(STEPS)
    for job in jobs:
        step = job["metadata"]["labels"]["conveyor/step"]
        key = result["steps"][step]["key"]
        assert job["metadata"]["name"] == f"conveyor-{step}-{key[:12]}"
        assert [owner["name"] for owner in job["metadata"]["ownerReferences"]] == ["conveyor-run-whole"]
    train = next(job for job in jobs if job["metadata"]["labels"]["conveyor/step"] == "train")
    assert train["status"]["succeeded"] == 2

    # Each rank's words have its name, and no line came twice, though two launchers may have read it.
    lines = ended.err.splitlines()
    assert any(line.startswith("ingest: ") for line in lines)
    for rank in (0, 1):
        assert sum(line.startswith(f"train/{rank}: training with") for line in lines) <= 1

    # The same once more, by the launcher's own log: it has ended, and there is nothing to do.
    again = run(world, config, "--run", "whole", cwd=tmp_path)
    assert again.status == 0, again.err
    assert again.json() == result
    assert len(world.get("pods", "app.kubernetes.io/component=launcher")) == len(
        world.get("pods", "app.kubernetes.io/component=launcher,conveyor/run=whole")
    )


def test_two_launchers_at_once_come_to_one_result(world: World, tmp_path: Path) -> None:
    config = world.config(tmp_path, ingest={"dataset": "twins"})

    def one(name: str) -> Ended:
        return run(world, config, "--run", name, "--until", "ingest", cwd=tmp_path)

    names = ("twin-a", "twin-b")
    with ThreadPoolExecutor(2) as pool:
        ends = dict(zip(names, pool.map(one, names), strict=True))
    for ended in ends.values():
        assert ended.status == 0, ended.err
    assert steps_of(ends["twin-a"]) == steps_of(ends["twin-b"])
    key = steps_of(ends["twin-a"])["ingest"][0]
    (job,) = [job for job in world.get("jobs") if job["metadata"]["name"] == f"conveyor-ingest-{key[:12]}"]
    assert job["status"]["succeeded"] == 1
    # Who came after it had ended found its result; who came before joined it.
    owners = {owner["name"] for owner in job["metadata"]["ownerReferences"]}
    for name, ended in ends.items():
        joined = f"conveyor-run-{name}" in owners
        assert joined is (ended.json()["steps"]["ingest"]["state"] == "done")
    assert owners


@contextmanager
def no_node_yet(world: World) -> Iterator[dict[str, Any]]:
    """Settings with which ingest's pod waits for a node until the block ends."""
    mark = f"conveyor.test/{world.namespace}"
    yield world.kubernetes(start_timeout_s=900, placement={"ingest": {"node_selector": {mark: "here"}}})
    kubectl("label", "nodes", "--all", f"{mark}=here")


@pytest.fixture
def unmarked_nodes(world: World) -> Iterator[None]:
    """Afterwards no node knows of this namespace."""
    yield
    kubectl("label", "nodes", "--all", f"conveyor.test/{world.namespace}-")


def test_ctrl_c_leaves_it_running_and_says_how_to_follow_and_stop_it(
    world: World, unmarked_nodes: None, tmp_path: Path
) -> None:
    until = ("--run", "left", "--until", "preprocess")
    # However long the commands take to start, the run is under way.
    with no_node_yet(world) as kubernetes:
        config = world.config(tmp_path, ingest={"dataset": "left"}, kubernetes=kubernetes)
        started = world.conveyor("run", "--on", "kubernetes", "-f", config, *until, "--detach", cwd=tmp_path)
        assert started.status == 0, started.err
        assert "--run left --until preprocess   follows it" in started.out
        stop = f"kubectl -n {world.namespace} delete job conveyor-run-left"
        assert stop in started.out

        other = world.config(tmp_path, "other", ingest={"dataset": "right"})
        refused = run(world, other, *until, cwd=tmp_path)
        assert refused.status == 2, refused.err
        assert "under way in the cluster with other settings" in refused.err

        seen, status = follow_and_interrupt("run", "--on", "kubernetes", "-f", config, *until, cwd=tmp_path)
        assert status == 130, seen
        assert "the run left goes on in the cluster" in seen
        assert stop in seen

    followed = run(world, config, *until, cwd=tmp_path)
    assert followed.status == 0, followed.err
    assert set(followed.json()["steps"]) == {"ingest", "preprocess"}


def follow_and_interrupt(*arguments: str | Path, cwd: Path) -> tuple[str, int]:
    """Ctrl-C as soon as the run is joined: what was said, and the exit status."""
    seen = ""
    with subprocess.Popen(
        command(arguments), cwd=cwd, env=environment(), stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            seen += line
            if "joined conveyor-run-left" in line:
                process.send_signal(signal.SIGINT)
                break
        seen += process.stderr.read()
    return seen, process.returncode


def test_a_failed_job_that_was_left_behind_is_started_anew(world: World, tmp_path: Path) -> None:
    tiny = world.kubernetes(retries=0, resources={"ingest": {"memory": "48Mi"}})
    settings = {"ingest": {"dataset": "anew"}}
    bad = world.config(tmp_path, "bad", kubernetes=tiny, **settings)
    failed = run(world, bad, "--run", "before", "--until", "ingest", cwd=tmp_path)
    assert failed.status == 3, failed.err
    assert failed.json()["error"]["step"] == "ingest"
    assert "ran out of memory" in failed.json()["error"]["what"]

    good = world.config(tmp_path, "good", **settings)
    ended = run(world, good, "--run", "after", "--until", "ingest", cwd=tmp_path)
    assert ended.status == 0, ended.err
    assert "had failed and is started anew" in ended.err
    assert "OOMKilled" in ended.err
