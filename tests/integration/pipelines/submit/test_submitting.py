"""What `conveyor submit` uploads and starts: the pipeline, its version, the run and its parameters."""

import json
from pathlib import Path

import pytest

from components.cluster.config import KubernetesConfig, resources_for
from pipelines.graph import GRAPH
from pipelines.kubeflow.files import version_name, write_yaml
from support.kfp_checks import Object
from support.kfp_server import KfpServer
from support.submitting import PROMOTED, leave_result, only, submit

pytestmark = pytest.mark.integration


def test_a_run_is_uploaded_started_and_followed(
    server: KfpServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    leave_result(server.backend, tmp_path, **PROMOTED)
    (tmp_path / "c.yaml").write_text("train: {batch_size: 64}\npromote: {min_accuracy: 0.5}")
    status = submit(
        server,
        *("-f", str(tmp_path / "c.yaml"), "--store", str(tmp_path), "--source", "s3://bucket/images"),
        *("--epochs", "3", "--param", "training_pods=2", "--run", "nightly", "--image", "r.example/c:1"),
        *("--experiment", "pictures"),
    )
    captured = capsys.readouterr()
    assert status == 0, captured.err
    run = only(server.backend.runs)
    assert run["display_name"] == "conveyor nightly"
    parameters = run["parameters"]
    assert json.loads(json.dumps(parameters | {"config": ""})) == {
        "store": str(tmp_path),
        "source": "s3://bucket/images",
        "epochs": 3,
        "training_pods": 2,
        "run": "nightly",
        "config": "",
    }
    assert "batch_size: 64" in parameters["config"]
    assert server.backend.experiments[run["experiment_id"]]["display_name"] == "pictures"
    version = server.backend.versions[run["pipeline_version_reference"]["pipeline_version_id"]]
    executors = version["pipeline_spec"]["deploymentSpec"]["executors"]
    assert {e["container"]["image"] for e in executors.values()} == {"r.example/c:1"}
    for number, name in enumerate((*GRAPH.names(), "report"), start=1):
        assert f"[{number}/{len(GRAPH) + 1}] {name} done" in captured.err
    assert "run nightly succeeded" in captured.out
    assert "90.00 %" in captured.out
    assert "Run details" not in captured.out  # kfp's own chatter


def test_the_same_pipeline_is_one_version(server: KfpServer) -> None:
    for run in ("a", "b"):
        assert submit(server, "--store", "s3://b/p", "--run", run, "--epochs", "2", "--detach") == 0
    assert len(server.backend.runs) == 2
    assert len(server.backend.pipelines) == 1
    assert (
        len(
            {run["pipeline_version_reference"]["pipeline_version_id"] for run in server.backend.runs.values()}
        )
        == 1
    )
    assert submit(server, "--store", "s3://b/p", "--image", "other:1", "--detach") == 0
    assert (
        len(
            {run["pipeline_version_reference"]["pipeline_version_id"] for run in server.backend.runs.values()}
        )
        == 2
    )


def test_two_first_submissions_at_once_share_pipeline_version_and_experiment(
    server: KfpServer, tmp_path: Path
) -> None:
    """The other one is always faster by a moment: it has made each thing when ours is about to."""
    write_yaml(GRAPH, tmp_path / "p.yaml")
    data, backend = (tmp_path / "p.yaml").read_bytes(), server.backend
    version = version_name(data)
    others: list[Object] = []

    def be_faster(request: str) -> int:
        if request == "POST /pipelines/upload":
            others.append(backend.upload_pipeline(data, "conveyor", "", ""))
        elif request == "POST /pipelines/upload_version":
            others.append(backend.upload_version(data, version, "", others[0]["pipeline_id"]))
        elif request == "POST /experiments":
            others.append(backend.create_experiment({"display_name": "conveyor"}))
        return 0

    server.stumbles = be_faster
    assert submit(server, "--store", "s3://b/p", "--detach") == 0
    assert len(others) == 3
    run = only(backend.runs)
    assert run["pipeline_version_reference"] == {
        "pipeline_id": others[0]["pipeline_id"],
        "pipeline_version_id": others[1]["pipeline_version_id"],
    }
    assert run["experiment_id"] == others[2]["experiment_id"]


def test_the_train_tasks_pod_is_small_where_others_train(server: KfpServer) -> None:
    memory = {}
    for pods in (1, 2):
        server.backend.versions.clear()
        assert submit(server, "--store", "s3://b/p", "--param", f"training_pods={pods}", "--detach") == 0
        (version,) = (v for v in server.backend.versions.values() if v["name"] != "conveyor")
        container = version["pipeline_spec"]["deploymentSpec"]["executors"]["exec-train"]["container"]
        memory[pods] = container["resources"]["resourceMemoryLimit"]
    settings = KubernetesConfig()
    assert memory == {
        1: resources_for(settings, "train").memory,
        2: resources_for(settings, "launcher").memory,
    }
    assert submit(server, "--store", "s3://b/p", "--param", "training_pods=1000", "--detach") == 2


def test_an_image_that_only_this_machine_has_is_doubted(
    server: KfpServer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert submit(server, "--store", "s3://b/p", "--detach") == 0
    assert "the image is conveyor:latest" in capsys.readouterr().err
    assert submit(server, "--store", "s3://b/p", "--detach", "--image", "r.example/c:1") == 0
    assert "the image is" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "no store is given"),
        (("--store", "relative/folder"), "the pods cannot reach a store"),
        (("--store", "s3://b/p", "--source", "photos"), "the pods cannot reach a source"),
        (("--store", "s3://b/p", "--param", "epoch=3"), "the pipeline has no such parameter"),
        (("--store", "s3://b/p", "--param", "epochs=many"), "whole number"),
        (("--store", "s3://b/p", "--set", "train.epoch=3"), "did you mean train.epochs?"),
        (("--store", "s3://b/p", "--run", "No Good"), "not a usable run name"),
    ],
)
def test_wrong_settings_are_told_before_anything_is_asked_of_the_server(
    server: KfpServer, arguments: tuple[str, ...], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert submit(server, *arguments) == 2
    assert told in capsys.readouterr().err
    assert server.requests == []
