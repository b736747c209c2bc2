"""The same table as a Kubeflow pipeline."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kfp import compiler, dsl
from kfp import kubernetes as k8s

from pipelines.graph import Graph, Step
from pipelines.parameters import PARAMETERS, Parameter

PIPELINE_NAME = "conveyor"
SECRET = "conveyor-store"  # noqa: S105 - the name of a Kubernetes Secret, not one
SECRET_KEYS = {
    "access-key": "AWS_ACCESS_KEY_ID",
    "secret-key": "AWS_SECRET_ACCESS_KEY",
    "session-token": "AWS_SESSION_TOKEN",
}
RUN_AS = 10001  # the image's user


def make_pipeline(graph: Graph, *, image: str | None = None) -> Any:
    """The pipeline function, decorated: what `compiler.Compiler` takes and what runs under `kfp.local` when called.

    Every row of the table becomes a task; a form parameter goes to each component that has a parameter of its name.
    """

    def build(*channels: Any) -> None:
        form = {parameter.name: channel for parameter, channel in zip(PARAMETERS, channels, strict=True)}
        tasks: dict[str, Any] = {}
        for step in graph:
            tasks[step.name] = _task(step, form, tasks, image)

    return dsl.pipeline(
        name=PIPELINE_NAME,
        description="A folder of labelled images becomes a trained, compressed, promoted CNN.",
    )(_with_form(build))


def _with_form(build: Callable[..., None]) -> Callable[..., None]:
    """Give the function the signature and the docstring that kfp reads the form from."""
    parameters = [
        inspect.Parameter(
            p.name,
            inspect.Parameter.POSITIONAL_OR_KEYWORD,
            default=inspect.Parameter.empty if p.default is None else p.default,
            annotation=_type(p),
        )
        for p in PARAMETERS
    ]
    build.__name__ = PIPELINE_NAME
    build.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    build.__annotations__ = {p.name: _type(p) for p in PARAMETERS}
    build.__doc__ = "Conveyor.\n\nArgs:\n" + "\n".join(f"    {p.name}: {p.description}" for p in PARAMETERS)
    return build


def _type(parameter: Parameter) -> type:
    return int if isinstance(parameter.default, int) else str


def _task(step: Step, form: dict[str, Any], tasks: dict[str, Any], image: str | None) -> Any:
    component = step.component()
    wanted = component.component_spec.inputs or {}
    arguments = {name: channel for name, channel in form.items() if _is_parameter(wanted.get(name))}
    if _is_parameter(wanted.get("job")):
        arguments["job"] = dsl.PIPELINE_JOB_ID_PLACEHOLDER
    references = {field: tasks[upstream].outputs["reference"] for field, upstream in step.inputs.items()}
    task = component(**arguments, **references)
    task.set_display_name(step.name)
    # A step's own key decides what is reused: it sees a source that changed behind the same parameters, Kubeflow's
    # key (image, command, arguments) does not.
    task.set_caching_options(False)
    task.set_retry(num_retries=2, backoff_duration="30s", backoff_factor=2.0)  # nodes do get lost
    task.set_env_variable("PYTHONUNBUFFERED", "1")
    task.set_env_variable("CONVEYOR_LOG_FORMAT", "json")
    if image is not None:
        task.set_container_image(image)
    k8s.use_secret_as_env(task, SECRET, SECRET_KEYS, optional=True)
    k8s.set_security_context(task, run_as_user=RUN_AS, run_as_group=RUN_AS, run_as_non_root=True)
    return task


def _is_parameter(spec: Any) -> bool:
    """Whether a component's input is a plain value (an artifact's type is written schema.title@version)."""
    return spec is not None and "@" not in spec.type


def write_yaml(graph: Graph, path: Path, *, image: str | None = None) -> None:
    """Compile to Kubeflow's intermediate representation."""
    path.parent.mkdir(parents=True, exist_ok=True)
    compiler.Compiler().compile(make_pipeline(graph, image=image), package_path=str(path))
