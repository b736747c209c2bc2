"""The one table of steps and edges: the local runner, the Kubeflow function and the manifests are made from it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from types import MappingProxyType
from typing import Any

from components.common.errors import InputError
from components.common.sections import config_type
from components.common.step import StepInputs


@dataclass(frozen=True, slots=True)
class Step:
    """One row: a step's name, the package that it lives in, and which step fills which of its inputs."""

    name: str
    package: str
    inputs: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Field of the step's `Inputs` → name of the step that produces it."""

    def program(self) -> Any:
        """The module `run.py` (a `components.common.step.StepProgram`), imported when it is asked for."""
        return import_module(f"{self.package}.run")

    def inputs_type(self) -> type[StepInputs]:
        kind: type[StepInputs] = self.program().Inputs
        return kind

    def config_type(self) -> Any:
        """The settings model, from `config.py`."""
        return config_type(self.package, self.name)

    def component(self) -> Any:
        """The Kubeflow component: the function in `component.py` that is named after the step (imports kfp)."""
        return getattr(import_module(f"{self.package}.component"), self.name)


@dataclass(frozen=True)
class Graph:
    """Steps in an order in which they can run. Raises `ValueError` for a table that cannot be one."""

    steps: tuple[Step, ...]

    def __post_init__(self) -> None:
        known: set[str] = set()
        for step in self.steps:
            if step.name in known:
                raise ValueError(f"two steps are called {step.name}")
            missing = set(step.inputs.values()) - known
            if missing:
                raise ValueError(f"{step.name} needs {', '.join(sorted(missing))}, which must stand above it")
            known.add(step.name)

    def __iter__(self) -> Iterator[Step]:
        return iter(self.steps)

    def __len__(self) -> int:
        return len(self.steps)

    def __getitem__(self, name: str) -> Step:
        """The step of that name. Raises `InputError` that lists the names there are."""
        for step in self.steps:
            if step.name == name:
                return step
        raise InputError(
            f"there is no step called {name}", expected=f"one of {', '.join(self.names())}", found=repr(name)
        )

    def names(self) -> tuple[str, ...]:
        return tuple(step.name for step in self.steps)

    def packages(self) -> dict[str, str]:
        """Step name → package."""
        return {step.name: step.package for step in self.steps}

    def until(self, name: str | None) -> "Graph":
        """The part of the graph that ends with the step `name`; all of it for None."""
        if name is None:
            return self
        last = self.names().index(self[name].name)
        return Graph(self.steps[: last + 1])

    def with_step(self, step: Step) -> "Graph":
        return Graph((*self.steps, step))


GRAPH = Graph(
    (
        Step("ingest", "components.ingest"),
        Step("preprocess", "components.preprocess", {"snapshot": "ingest"}),
        Step("train", "components.train", {"shards": "preprocess"}),
        Step("evaluate", "components.evaluate", {"model": "train", "shards": "preprocess"}),
        Step("compress", "components.compress", {"model": "train", "shards": "preprocess"}),
        Step(
            "promote",
            "components.promote",
            {
                "compressed": "compress",
                "evaluation": "evaluate",
                "snapshot": "ingest",
                "shards": "preprocess",
                "model": "train",
            },
        ),
    )
)
