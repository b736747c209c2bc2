"""The pipeline on a server: uploaded once, a new version where it has changed."""

import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.cluster.config import KubernetesConfig
from components.common.errors import InputError
from pipelines.graph import Graph
from pipelines.kubeflow.files import version_name, write_yaml
from pipelines.kubeflow.server import Server, TakenError

MAX_NAME = 128


@dataclass(frozen=True, slots=True)
class Version:
    """A version of the pipeline on a server."""

    pipeline_id: str
    version_id: str
    name: str
    is_new: bool


def upload(server: Server, graph: Graph, kubernetes: KubernetesConfig, name: str) -> Version:
    """The pipeline called `name` with the version that is this graph, uploaded if it is not there yet.

    A version is named by its content, so that a hundred submissions of the same pipeline are one version. Raises
    `InputError` for a name that no pipeline can have.
    """
    if not name.strip() or len(name) > MAX_NAME:
        raise InputError("this is not a usable pipeline name", where=f"--pipeline {name}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "conveyor.yaml")
        write_yaml(graph, path, kubernetes=kubernetes)
        version = version_name(path.read_bytes())

        def make_pipeline(client: Any) -> str:
            # The first version is named as its pipeline: ours, with a name of its own, stands beside it.
            made = client.upload_pipeline(str(path), pipeline_name=name, namespace=server.namespace)
            return str(made.pipeline_id)

        def make_version(client: Any) -> str:
            made = client.upload_pipeline_version(str(path), version, pipeline_id=ours)
            return str(made.pipeline_version_id)

        ours = pipeline_id(server, name) or _make(server, make_pipeline, lambda: pipeline_id(server, name))
        known = _version_id(server, ours, version)
        if known is not None:
            return Version(ours, known, version, is_new=False)
        made = _make(server, make_version, lambda: _version_id(server, ours, version))
        return Version(ours, made, version, is_new=True)


def experiment_id(server: Server, name: str) -> str:
    """Of the experiment called `name`, made if there is none."""

    def make(client: Any) -> str:
        return str(client.create_experiment(name, namespace=server.namespace).experiment_id)

    def again() -> str:
        with server.calling() as client:
            return make(client)  # it looks first

    return _make(server, make, again)


def _make(server: Server, make: Callable[[Any], str], find: Callable[[], str | None]) -> str:
    """The id of what `make` makes; of what `find` finds where another submission was faster by a moment."""
    try:
        with server.calling() as client:
            return make(client)
    except TakenError:
        found = find()
        if found is None:
            raise
        return found


def pipeline_id(server: Server, name: str) -> str | None:
    """Of the pipeline called `name`; None where there is none."""
    with server.calling() as client:
        answer = client.list_pipelines(page_size=100, filter=named(name), namespace=server.namespace)
    for pipeline in answer.pipelines or ():
        return str(pipeline.pipeline_id)
    return None


def _version_id(server: Server, pipeline_id: str, name: str) -> str | None:
    with server.calling() as client:
        answer = client.list_pipeline_versions(pipeline_id, page_size=100, filter=named(name))
    for version in answer.pipeline_versions or ():
        return str(version.pipeline_version_id)
    return None


def named(name: str) -> str:
    """The API's filter for objects of that name."""
    return json.dumps({"predicates": [{"operation": "EQUALS", "key": "display_name", "stringValue": name}]})
