"""Everything about one run that its report needs, from the store."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from components.common.blobs import Blobs
from components.common.errors import ConveyorError, InputError
from components.common.records import Record, read_measurements, read_record
from components.common.refs import Ref
from components.common.runs import read_pointer
from components.common.step import Outcome
from components.common.store import Store
from components.common.store.base import NotFoundError
from components.common.trees import Tree
from pipelines.graph import GRAPH

RefT = TypeVar("RefT", bound=Ref)


@dataclass(frozen=True)
class StepView:
    """A finished step of the run."""

    name: str
    state: str
    """done or reused."""
    seconds: float
    """That the run spent on it."""
    record: Record
    output: Ref
    measurements: Mapping[str, Any]
    tree: Tree


@dataclass(frozen=True)
class RunView:
    """A run, finished or not."""

    run_id: str
    blobs: Blobs
    steps: dict[str, StepView]
    """In the order in which they ran."""
    failed_step: str | None = None
    error: Mapping[str, Any] = field(default_factory=dict)
    """What stopped it: what, where, expected, found, todo."""

    def of(self, kind: type[RefT]) -> tuple[RefT, StepView] | None:
        """The last step that produced such a reference."""
        for step in reversed(self.steps.values()):
            if isinstance(step.output, kind):
                return step.output, step
        return None

    def entry(self, step: StepView, name: str) -> bytes | None:
        """One file of a step's result; None where it has none of that name."""
        return self.blobs.read(step.tree[name].digest) if name in step.tree else None

    def document(self, step: StepView, name: str) -> Any:
        """The same, from JSON."""
        data = self.entry(step, name)
        return None if data is None else json.loads(data)


def gather(
    store: Store,
    run_id: str,
    outcomes: Mapping[str, Outcome] | None = None,
    *,
    failed_step: str | None = None,
    error: ConveyorError | None = None,
) -> RunView:
    """Read a run. `outcomes`, `failed_step` and `error` are what the runner knows; without them what it wrote counts.

    Raises `InputError` where there is no such run.
    """
    result = _read_result(store, run_id) if outcomes is None else {}
    blobs = Blobs(store)
    steps: dict[str, StepView] = {}
    for name in _step_names(store, run_id, outcomes):
        pointer = read_pointer(store, run_id, name)
        record = read_record(store, name, pointer.key) if pointer else None
        if record is None:
            continue
        output = record.output_ref()
        measurements = read_measurements(store, name, record.key, output)
        if outcomes is not None:
            state, seconds = outcomes[name].state, outcomes[name].seconds
        else:
            told = result.get("steps", {}).get(name, {})
            state, seconds = told.get("state", "done"), told.get("seconds", measurements.get("seconds", 0.0))
        steps[name] = StepView(
            name, state, float(seconds), record, output, measurements, Tree.read(blobs, output.tree)
        )
    if not steps and error is None:
        raise InputError(
            "there is no such run, or none of its steps has finished", found=run_id, where=store.url
        )
    if error is not None:
        told_error: Mapping[str, Any] = {"what": error.what, "where": error.where, "todo": error.todo}
    else:
        told_error = result.get("error") or {}
    return RunView(run_id, blobs, steps, failed_step or told_error.get("step"), told_error)


def _step_names(store: Store, run_id: str, outcomes: Mapping[str, Outcome] | None) -> list[str]:
    if outcomes is not None:
        return list(outcomes)
    prefix = f"runs/{run_id}/"
    there = {info.key.removeprefix(prefix).removesuffix(".json") for info in store.list(prefix)}
    known = [name for name in GRAPH.names() if name in there]
    # Names of steps have no dot: report.html, train.ended.json and the like stand beside their pointers.
    return known + sorted(name for name in there - {*known, "result"} if "." not in name)


def _read_result(store: Store, run_id: str) -> dict[str, Any]:
    try:
        data, _ = store.read(f"runs/{run_id}/result.json")
    except NotFoundError:
        return {}
    value = json.loads(data)
    result: dict[str, Any] = value.get("result", {}) if isinstance(value, dict) else {}
    return result
