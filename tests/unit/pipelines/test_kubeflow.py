"""The compiled Kubeflow pipeline: parameters, edges, outputs, and what must not be in it."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.graph import GRAPH
from pipelines.kubeflow import SECRET, write_yaml
from pipelines.parameters import PARAMETERS


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    path = tmp_path_factory.mktemp("kfp") / "conveyor.yaml"
    write_yaml(GRAPH, path, image="registry.example/conveyor:1")
    return list(yaml.safe_load_all(path.read_text()))


def test_the_form_has_types_defaults_and_descriptions(documents: list[Any]) -> None:
    form = documents[0]["root"]["inputDefinitions"]["parameters"]
    assert set(form) == {parameter.name for parameter in PARAMETERS}
    assert form["epochs"]["parameterType"] == "NUMBER_INTEGER"
    assert form["epochs"]["defaultValue"] == 0
    assert "isOptional" not in form["store"]
    assert all(parameter["description"] for parameter in form.values())


def test_every_row_is_a_task_with_its_edges(documents: list[Any]) -> None:
    tasks = documents[0]["root"]["dag"]["tasks"]
    assert set(tasks) == set(GRAPH.names())
    for step in GRAPH:
        artifacts = tasks[step.name]["inputs"].get("artifacts", {})
        assert {
            field: source["taskOutputArtifact"]["producerTask"] for field, source in artifacts.items()
        } == dict(step.inputs)


def test_every_form_field_reaches_a_step(documents: list[Any]) -> None:
    used = set()
    for task in documents[0]["root"]["dag"]["tasks"].values():
        for source in task["inputs"]["parameters"].values():
            used.add(source.get("componentInputParameter"))
    assert {parameter.name for parameter in PARAMETERS} <= used


def test_kubeflows_cache_is_off_and_lost_nodes_are_retried(documents: list[Any]) -> None:
    for task in documents[0]["root"]["dag"]["tasks"].values():
        assert task["cachingOptions"] == {}
        assert task["retryPolicy"]["maxRetryCount"] == 2


def test_every_container_has_the_image_and_logs_as_json(documents: list[Any]) -> None:
    for executor in documents[0]["deploymentSpec"]["executors"].values():
        container = executor["container"]
        assert container["image"] == "registry.example/conveyor:1"
        assert {"name": "CONVEYOR_LOG_FORMAT", "value": "json"} in container["env"]
        assert {"name": "PYTHONUNBUFFERED", "value": "1"} in container["env"]


def test_credentials_come_from_a_secret_only(documents: list[Any]) -> None:
    for executor in documents[1]["platforms"]["kubernetes"]["deploymentSpec"]["executors"].values():
        (secret,) = executor["secretAsEnv"]
        assert secret["secretName"] == SECRET
        assert executor["securityContext"]["runAsNonRoot"] is True
    form = documents[0]["root"]["inputDefinitions"]["parameters"]
    assert not any(word in name for name in form for word in ("key", "secret", "password", "token"))


def test_outputs_are_what_the_interface_can_show(documents: list[Any]) -> None:
    def types(step: str) -> dict[str, str]:
        artifacts = documents[0]["components"][f"comp-{step}"]["outputDefinitions"]["artifacts"]
        return {name: spec["artifactType"]["schemaTitle"] for name, spec in artifacts.items()}

    for step in GRAPH.names():
        assert types(step)["reference"] == "system.Artifact"
        assert types(step)["metrics"] == "system.Metrics"
    assert types("evaluate")["classification"] == "system.ClassificationMetrics"
    assert types("evaluate")["report"] == "system.HTML"
    assert types("preprocess")["contact_sheet"] == "system.HTML"


def test_compiling_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_yaml(GRAPH, tmp_path / f"{name}.yaml")
    assert (tmp_path / "a.yaml").read_bytes() == (tmp_path / "b.yaml").read_bytes()
