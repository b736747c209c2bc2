"""The whole Kubeflow pipeline under kfp.local's DockerRunner: every task a container of the built image, restricted."""

import json
import warnings
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from components.cluster.config import KubernetesConfig
from components.common.runs import read_pointer
from components.common.store import open_store
from pipelines.graph import GRAPH
from pipelines.runner import read_result
from support.containers import UID, shared_folder
from support.small_digits import write_small_digits
from support.small_pipeline import ROOT, SMALL, conveyor

pytestmark = [pytest.mark.containers, pytest.mark.timeout(1200, func_only=True)]

QUICK = SMALL | {"train": SMALL["train"] | {"epochs": 1}}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The one folder that the runner mounts: images, store and what passes between the tasks."""
    folder = shared_folder(tmp_path_factory.mktemp("kubeflow"))
    write_small_digits(folder / "digits")
    return folder


def run_in_docker(place: Path, image: str, **parameters: Any) -> None:
    """Run the pipeline as Kubeflow would, as far as Docker can: user, read-only root, no capabilities, no network."""
    from kfp import local

    from pipelines.kubeflow.pipeline import make_pipeline

    runner = local.DockerRunner(
        # Kubernetes replaces the image's entry point by the task's command, Docker puts the command behind it.
        entrypoint=["tini", "--"],
        user=f"{UID}:{UID}",
        read_only=True,
        tmpfs={"/tmp": "rw,exec,mode=1777"},
        cap_drop=["ALL"],
        security_opt=["no-new-privileges"],
        network_mode="none",
        shm_size="256m",
    )
    local.init(runner=runner, pipeline_root=str(place), raise_on_error=True)
    pipeline = make_pipeline(GRAPH, image=image, kubernetes=KubernetesConfig(retries=0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "you may be using a custom image": we are
        pipeline(
            store=str(place / "store"),
            source=str(place / "digits"),
            config=yaml.safe_dump(QUICK),
            **parameters,
        )


def test_the_whole_pipeline_in_containers(image: str, place: Path) -> None:
    run_in_docker(place, image, run="docker", training_pods=1)
    store = open_store(str(place / "store"))
    document: Any = read_result(store, "docker")
    result = document["result"]
    jsonschema.validate(result, json.loads((ROOT / "docs" / "run.schema.json").read_text()))
    assert {name: step["state"] for name, step in result["steps"].items()} == dict.fromkeys(
        GRAPH.names(), "done"
    )
    assert result["ingest"]["quarantined"] > 0  # the planted bad files
    (page,) = (path for path in place.rglob("page") if path.is_file())
    assert page.stat().st_uid == UID
    assert page.read_bytes().lstrip().lower().startswith(b"<!doctype html")
    figures = json.loads(next(place.glob("conveyor-*/report/executor_output.json")).read_bytes())
    assert figures["artifacts"]["metrics"]["artifacts"][0]["metadata"]["exit_code"] == 0.0

    # The host finds what needs no training there: the same snapshot, in the same store.
    (place / "c.yaml").write_text(yaml.safe_dump(QUICK))
    arguments = (
        "--store",
        "store",
        "-f",
        "c.yaml",
        "--source",
        "digits",
        "--run",
        "host",
        "--until",
        "ingest",
    )
    ended = conveyor("run", *arguments, "--json", cwd=place)
    assert ended.status == 0, ended.err
    pointer = read_pointer(store, "host", "ingest")
    assert ended.json()["steps"]["ingest"]["output"]["tree"] == result["steps"]["ingest"]["output"]["tree"]
    assert pointer is not None


def test_a_second_run_reuses_every_step(image: str, place: Path) -> None:
    run_in_docker(place, image, run="again")
    document: Any = read_result(open_store(str(place / "store")), "again")
    assert {step["state"] for step in document["result"]["steps"].values()} == {"reused"}


def test_a_failing_container_is_told_with_its_cause(image: str, place: Path) -> None:
    with pytest.raises(RuntimeError, match="train"):
        run_in_docker(place, image, run="failing", model="lenet-of-mine")
    document: Any = read_result(open_store(str(place / "store")), "failing")
    result = document["result"]
    assert result["state"] == "failed"
    assert result["error"]["exit_code"] == 2
    assert "train.model" in result["error"]["what"]
