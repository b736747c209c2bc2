"""What goes wrong in a cluster, each told in its one clear message, with what to do, and in time. No case hangs."""

import json
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.cluster_world import (
    World,
    credentials,
    delete_namespace,
    fill,
    kubectl,
    make_namespace,
    start_minio,
    wait_until,
    why_no_cluster,
)
from support.small_pipeline import Ended, conveyor

REASON = why_no_cluster()
pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(900),
    pytest.mark.skipif(REASON is not None, reason=f"no cluster: {REASON}"),
]
NO_REGISTRY = "127.0.0.1:1"
"""Where nothing listens, on any node."""
WAIT_S = 75
"""Of a case in which the pod is waited for to the end, and for long enough that somebody has said what it lacks."""


@dataclass(frozen=True)
class Case:
    """What is wrong, and what must be said."""

    name: str
    status: int
    words: tuple[str, ...]
    kubernetes: dict[str, Any] = field(default_factory=dict)
    sections: dict[str, Any] = field(default_factory=dict)
    quota: bool = False
    """In the namespace that may have no pods."""
    launched: bool = False
    """The launcher's pod itself ran, and its JSON result tells."""
    start_s: int = 240
    """What a pod has to start in. A busy node takes its time; what is hopeless ends the wait as soon as it is said."""


CASES = [
    Case(
        "wrong-secret",
        2,
        ("credentials", "AWS_SECRET_ACCESS_KEY"),
        {"secret": "wrong"},
        launched=True,
    ),
    Case(
        "missing-bucket",
        2,
        ("bucket", "nowhere"),
        sections={"store": {"url": "s3://nowhere/tests"}},
        launched=True,
    ),
    Case(
        "missing-secret",
        2,
        ("there is no Secret not-there", "create secret generic not-there"),
        {"secret": "not-there"},
    ),
    Case(
        "no-image",
        2,
        ("the image", f"{NO_REGISTRY}/conveyor:not-there", "cannot be pulled"),
        {"image": f"{NO_REGISTRY}/conveyor:not-there"},
        start_s=WAIT_S,  # a registry may come back
    ),
    Case(
        "image-never-pulled",
        2,
        ("conveyor:not-there", "is not on the node"),
        {"image": "conveyor:not-there", "image_pull_policy": "Never"},
    ),
    Case(
        "out-of-memory",
        3,
        ("ran out of memory and was killed (OOMKilled", "at most 48Mi", "kubernetes.resources.ingest.memory"),
        {"resources": {"ingest": {"memory": "48Mi"}}, "retries": 0},
        launched=True,
    ),
    Case(
        "no-account",
        2,
        ("there is no ServiceAccount nobody", "chart or manifests"),
        {"launcher_service_account": "nobody"},
    ),
    Case(
        "account-without-rights",
        2,
        ("conveyor-step may not", "can-i"),
        {"launcher_service_account": "conveyor-step"},
        launched=True,
    ),
    Case(
        "no-node",
        3,
        ("no node takes the pod", "node affinity/selector"),
        {"node_selector": {"moon": "1"}},
        start_s=WAIT_S,
    ),
    Case(
        "too-late",
        3,
        ("deadline of 1 s", "kubernetes.deadline_s"),
        {"deadline_s": 1},
        {"ingest": {"source": "s3://images/small/class_0"}},  # a Job of its own
        launched=True,
    ),
    Case("quota", 3, ("quota leaves no room", "exceeded quota: none"), quota=True, start_s=WAIT_S),
]


@dataclass(frozen=True)
class Ends:
    """How each case ended, and where."""

    world: World
    tight: World
    of: dict[str, Future[Ended]]


@pytest.fixture(scope="module")
def ends(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ends]:
    """All cases at once: most of the time of each is waiting."""
    folder = tmp_path_factory.mktemp("cases")
    world, tight = make_namespace("fail"), make_namespace("quota")

    def where(case: Case) -> World:
        return tight if case.quota else world

    try:
        start_minio(world)
        fill(world, folder / "images")
        world.apply(credentials(world.access_key, "wrong" * 8, name="wrong"))
        tight.apply(
            {
                "apiVersion": "v1",
                "kind": "ResourceQuota",
                "metadata": {"name": "none"},
                "spec": {"hard": {"pods": "0"}},
            }
        )
        with ThreadPoolExecutor(len(CASES)) as pool:

            def begin(*, waits: bool) -> dict[str, Future[Ended]]:
                cases = [case for case in CASES if (case.start_s == WAIT_S) is waits]
                return {case.name: pool.submit(_run, case, where(case), folder) for case in cases}

            def there() -> int:
                jobs = world.get("jobs") + tight.get("jobs")
                return len(jobs) + sum(each.done() for each in found.values())

            # These take longest, and have their pods before the others keep the node busy.
            found = begin(waits=True)
            wait_until("the first Jobs", lambda: there() >= len(found))
            found |= begin(waits=False)
        yield Ends(world, tight, found)
    finally:
        delete_namespace(world)
        delete_namespace(tight)


def _run(case: Case, where: World, folder: Path) -> Ended:
    kubernetes = where.kubernetes(**{"start_timeout_s": case.start_s, **case.kubernetes})
    config = where.config(folder, case.name, **{**case.sections, "kubernetes": kubernetes})
    return where.conveyor(
        "run",
        "--on",
        "kubernetes",
        "-f",
        config,
        "--json",
        "--run",
        case.name,
        "--until",
        "ingest",
        cwd=folder,
    )


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_one_clear_message(case: Case, ends: Ends) -> None:
    ended = ends.of[case.name].result()
    assert ended.status == case.status, ended.err
    for word in case.words:
        assert word in ended.err
    assert "Traceback" not in ended.err
    assert ended.err.count("error: ") == 1
    assert "warning: pod" not in ended.err
    told = json.loads(ended.out)["error"]
    assert told["exit_code"] == case.status
    assert told["todo"]
    assert told["what"] in ended.err
    if case.launched:
        assert json.loads(ended.out)["run"] in (case.name, None)


def test_what_never_started_is_not_left_behind(ends: Ends) -> None:
    left = {job["metadata"]["name"] for job in ends.world.get("jobs")}
    for case in CASES:
        if not case.launched:
            assert f"conveyor-run-{case.name}" not in left
    assert ends.tight.get("jobs") == []


def test_no_kubeconfig_no_context_no_server_no_namespace_and_no_rights(ends: Ends, tmp_path: Path) -> None:
    config = ends.world.config(tmp_path)
    command = ("run", "--on", "kubernetes", "-f", config)

    def err(*more: str, kubeconfig: Path | None = None) -> tuple[int, str]:
        env = {"KUBECONFIG": str(kubeconfig)} if kubeconfig else None
        ended = conveyor(*command, *more, cwd=tmp_path, env=env, timeout_s=400)
        assert "Traceback" not in ended.err
        return ended.status, ended.err

    status, told = err(kubeconfig=tmp_path / "nothing")
    assert (status, "there is no kubeconfig" in told) == (2, True), told
    status, told = err("--context", "moon")
    assert (status, "no context called moon" in told) == (2, True), told
    status, told = err("--namespace", "not-there")
    assert (status, "there is no namespace not-there" in told) == (2, True), told
    status, told = err("--store", "here")
    assert (status, "pods cannot reach this store" in told) == (2, True), told

    whole = yaml.safe_load(kubectl("config", "view", "--raw", "--minify"))
    away = tmp_path / "away"
    whole["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:1"
    away.write_text(yaml.safe_dump(whole))
    status, told = err(kubeconfig=away)
    assert (status, "the cluster cannot be reached" in told) == (3, True), told

    whole = yaml.safe_load(kubectl("config", "view", "--raw", "--minify"))
    token = ends.world.kubectl("create", "token", "conveyor-step").strip()
    whole["users"][0]["user"] = {"token": token}
    powerless = tmp_path / "powerless"
    powerless.write_text(yaml.safe_dump(whole))
    status, told = err(kubeconfig=powerless)
    assert status == 2, told
    assert "may not create configmaps in the namespace" in told
    assert "kubectl auth can-i create configmaps" in told
