"""The pipeline function, made from the table of steps."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from kfp import dsl

from components.cluster.config import KubernetesConfig
from pipelines.graph import Graph, Step
from pipelines.kubeflow.component import report
from pipelines.kubeflow.form import Value
from pipelines.kubeflow.task import REPORT, place
from pipelines.parameters import PARAMETERS, Parameter

PIPELINE_NAME = "conveyor"
STEPS = "steps"
"""The group that all other tasks are in."""


def make_pipeline(
    graph: Graph,
    *,
    image: str | None = None,
    kubernetes: KubernetesConfig | None = None,
    defaults: Mapping[str, Value] | None = None,
) -> Any:
    """The pipeline function, decorated: what `compiler.Compiler` takes and what runs under `kfp.local` when called.

    Every row of the table becomes a task; a form parameter goes to each component that has a parameter of its name.
    `kubernetes` says where and how the pods run (`image` wins over its image); `defaults` fills the form.
    """
    settings = kubernetes or KubernetesConfig()
    if image is not None:
        settings = settings.model_copy(update={"image": image})
    parameters = [_with_default(parameter, defaults or {}) for parameter in PARAMETERS]

    def build(*channels: Any) -> None:
        form = {parameter.name: channel for parameter, channel in zip(parameters, channels, strict=True)}
        packages = ",".join(f"{step.name}={step.package}" for step in graph)
        last = report(**_arguments(report, form), steps=packages)
        last.set_display_name(REPORT)
        place(last, REPORT, settings)
        tasks: dict[str, Any] = {}
        with dsl.ExitHandler(last, name=STEPS):
            for step in graph:
                tasks[step.name] = _task(step, form, tasks, settings)

    return dsl.pipeline(
        name=PIPELINE_NAME,
        description="A folder of labelled images becomes a trained, compressed, promoted CNN.",
    )(_with_form(build, parameters))


def _with_default(parameter: Parameter, defaults: Mapping[str, Value]) -> Parameter:
    value = defaults.get(parameter.name, parameter.default)
    return Parameter(parameter.name, value, parameter.description, parameter.key)


def _with_form(build: Callable[..., None], parameters: list[Parameter]) -> Callable[..., None]:
    """Give the function the signature and the docstring that kfp reads the form from."""
    signature = [
        inspect.Parameter(
            p.name,
            inspect.Parameter.POSITIONAL_OR_KEYWORD,
            default=inspect.Parameter.empty if p.default is None else p.default,
            annotation=_type(p),
        )
        # Python wants those without a default first.
        for p in sorted(parameters, key=lambda p: p.default is not None)
    ]
    build.__name__ = PIPELINE_NAME
    build.__signature__ = inspect.Signature(signature)  # type: ignore[attr-defined]
    build.__annotations__ = {p.name: _type(p) for p in parameters}
    build.__doc__ = "Conveyor.\n\nArgs:\n" + "\n".join(f"    {p.name}: {p.description}" for p in parameters)
    return build


def _type(parameter: Parameter) -> type:
    return int if isinstance(parameter.default, int) else str


def _task(step: Step, form: dict[str, Any], tasks: dict[str, Any], settings: KubernetesConfig) -> Any:
    component = step.component()
    references = {field: tasks[upstream].outputs["reference"] for field, upstream in step.inputs.items()}
    task = component(**_arguments(component, form), **references)
    task.set_display_name(step.name)
    place(task, step.name, settings)
    return task


def _arguments(component: Any, form: dict[str, Any]) -> dict[str, Any]:
    wanted = component.component_spec.inputs or {}
    arguments = {name: channel for name, channel in form.items() if _is_parameter(wanted.get(name))}
    if _is_parameter(wanted.get("job")):
        arguments["job"] = dsl.PIPELINE_JOB_ID_PLACEHOLDER
    return arguments


def _is_parameter(spec: Any) -> bool:
    """Whether a component's input is a plain value (an artifact's type is written schema.title@version)."""
    return spec is not None and "@" not in spec.type
