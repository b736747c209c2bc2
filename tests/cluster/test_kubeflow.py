"""A Kubeflow run on a real cluster, as far as it goes without its backend: its tasks as pods, and training in several.

Every task runs in the pod that the compiled file describes, admitted where `restricted` is enforced; the train task
launches its pods with the run's one ServiceAccount.
"""

import json
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.cluster.config import KubernetesConfig, resources_for
from components.cluster.leftover import end_training
from components.cluster.pods import container_security, pod_security
from components.common.progress import make_reporter
from pipelines.graph import GRAPH
from pipelines.kubeflow.files import write_yaml
from support.cluster_world import (
    IMAGE,
    Object,
    World,
    delete_namespace,
    fill,
    make_namespace,
    start_minio,
    why_no_cluster,
)
from support.kfp_pods import describe, handler_of

REASON = why_no_cluster()
pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(1500),
    pytest.mark.skipif(REASON is not None, reason=f"no cluster: {REASON}"),
]
ACCOUNT = "conveyor-launcher"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = make_namespace("kubeflow")
    try:
        start_minio(made)
        fill(made, tmp_path_factory.mktemp("images"))
        yield made
    finally:
        delete_namespace(made)


@pytest.fixture
def root() -> Iterator[Path]:
    """Below /tmp, the place that can be written to in a pod as well."""
    folder = Path(tempfile.mkdtemp(prefix="kfp-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def test_training_from_a_kubeflow_task_in_two_pods(
    world: World, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kfp import local

    from pipelines.kubeflow.pipeline import make_pipeline

    config = yaml.safe_load(world.config(tmp_path).read_text())
    del config["train"]["workers"]  # one in each pod
    several = {"retries": 0, "training": {**config["kubernetes"].get("training", {}), "pods": 2}}
    kubernetes = KubernetesConfig.model_validate_json(json.dumps(config["kubernetes"] | several))
    graph = GRAPH.until("train")
    compiled = tmp_path / "pipeline.yaml"
    write_yaml(graph, compiled, kubernetes=kubernetes)
    handler = handler_of(world, compiled, ACCOUNT)
    monkeypatch.setattr("kfp.local.docker_task_handler.DockerTaskHandler", handler)
    local.init(runner=local.DockerRunner(), pipeline_root=str(root), raise_on_error=True)
    store = config["store"].pop("url")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            make_pipeline(graph, kubernetes=kubernetes)(
                store=store, run="kubeflow", training_pods=2, config=yaml.safe_dump(config)
            )
        except RuntimeError as error:
            raise AssertionError(f"{error}\n{describe(world)}") from error

    (job,) = (job for job in world.get("jobs") if job["metadata"]["labels"]["conveyor/step"] == "train")
    assert job["spec"]["completions"] == 2
    assert job["status"]["succeeded"] == 2
    assert job["spec"]["template"]["spec"]["containers"][0]["image"] == IMAGE
    assert [owner["kind"] for owner in job["metadata"]["ownerReferences"]] == ["Pod"]
    (task,) = (p for p in world.get("pods") if p["metadata"]["name"].startswith("kfp-train-"))
    limits = task["spec"]["containers"][0]["resources"]["limits"]
    assert limits["memory"] == resources_for(kubernetes, "launcher").memory
    with world.storage() as client:
        body = client.get_object(Bucket="store", Key="tests/runs/kubeflow/result.json")["Body"].read()
    result: Any = json.loads(body)["result"]
    assert result["state"] == "succeeded"
    assert {name: step["state"] for name, step in result["steps"].items()} == dict.fromkeys(
        graph.names(), "done"
    )
    (page,) = (path for path in root.rglob("page") if path.is_file())
    assert page.read_bytes().lstrip().lower().startswith(b"<!doctype html")


def test_a_task_that_is_stopped_takes_its_own_training_with_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But not one that another run has joined, nor another run's."""
    uids = {name: make_idle_pod(world, name) for name in ("task", "other")}
    for name, owners in {"ours": ["task"], "joined": ["task", "other"], "others": ["other"]}.items():
        pods = [{"apiVersion": "v1", "kind": "Pod", "name": owner, "uid": uids[owner]} for owner in owners]
        make_suspended_job(world, name, pods)
    monkeypatch.setenv("CONVEYOR_POD", "task")
    end_training(world.namespace, make_reporter())
    left = {job["metadata"]["name"] for job in world.get("jobs", "conveyor/run=stopped")}
    assert left == {"joined", "others"}


def test_a_run_without_success_lets_go_of_its_training(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Argo's Workflow, which owns all pods of the run and what they launched, is a ConfigMap here."""
    runs = {name: make_run(world, name) for name in ("ours", "theirs")}
    owned = {"run-alone": ["ours"], "run-joined": ["ours", "theirs"], "run-not-ours": ["theirs"]}
    for name, owners in owned.items():
        make_suspended_job(world, name, [runs[owner] for owner in owners])
    pod = "conveyor-x7k2p-metadata-1-4-retry-system-container-impl-3812345678"
    make_idle_pod(world, pod, owner=runs["ours"])
    monkeypatch.setenv("HOSTNAME", pod[:63])
    monkeypatch.setenv("CONVEYOR_POD", pod)
    end_training(world.namespace, make_reporter())
    said = capsys.readouterr().err
    assert "Job run-alone was deleted" in said
    assert "Job run-joined goes on, for the others that follow it" in said
    jobs = {job["metadata"]["name"]: job for job in world.get("jobs", "conveyor/run=stopped")}
    assert {
        name: [owner["name"] for owner in jobs[name]["metadata"]["ownerReferences"]]
        for name in set(owned) & set(jobs)
    } == {"run-joined": ["theirs"], "run-not-ours": ["theirs"]}


def make_run(world: World, name: str) -> Object:
    """What may own things, as a reference to it."""
    world.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}})
    found = json.loads(world.kubectl("get", "configmap", name, "-o", "json"))
    return {"apiVersion": "v1", "kind": "ConfigMap", "name": name, "uid": found["metadata"]["uid"]}


def make_idle_pod(world: World, name: str, *, owner: Object | None = None) -> str:
    """A pod that is never given a node; returns its uid."""
    container = {"name": "main", "image": IMAGE, "securityContext": container_security()}
    spec = {
        "schedulingGates": [{"name": "conveyor.test/never"}],
        "securityContext": pod_security(),
        "containers": [container],
    }
    metadata: Object = {"name": name}
    if owner is not None:
        metadata["ownerReferences"] = [{**owner, "controller": True}]
    world.apply({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
    uid: str = json.loads(world.kubectl("get", "pod", name, "-o", "json"))["metadata"]["uid"]
    return uid


def make_suspended_job(world: World, name: str, owners: list[Object]) -> None:
    metadata = {
        "name": name,
        "labels": {"conveyor/run": "stopped", "conveyor/step": "train"},
        "ownerReferences": owners,
    }
    container = {"name": "main", "image": IMAGE, "securityContext": container_security()}
    template = {
        "spec": {"restartPolicy": "Never", "securityContext": pod_security(), "containers": [container]}
    }
    spec = {"suspend": True, "template": template}
    world.apply({"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec})
