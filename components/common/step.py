"""How every step runs, wherever it runs: look for the record, else work, then publish the record last."""

import shutil
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict

from components.common import runs
from components.common.blobs import Blobs
from components.common.canonical import Json
from components.common.code import code_version
from components.common.config import StepConfig
from components.common.keep import keep
from components.common.progress import Reporter
from components.common.records import (
    Record,
    publish_record,
    read_measurements,
    read_record,
    record_name,
    step_key,
    write_measurements,
)
from components.common.refs import Ref
from components.common.store.base import Store


class StepInputs(BaseModel):
    """Base of a step's inputs: each field is a reference (or None, for an optional one)."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True)

    def key_fields(self) -> dict[str, Any]:
        return self.model_dump(mode="json")


@dataclass(frozen=True)
class StepContext:
    """What a step works with."""

    store: Store
    blobs: Blobs
    key: str
    """The record's key; names what a step keeps between tries, such as checkpoints."""
    reporter: Reporter
    scratch: Path
    """A private folder, removed when the step ends."""
    measure: dict[str, Json] = field(default_factory=dict)
    """Clocks go here (seconds, latencies, hosts); stored beside the record, never in it."""


class StepProgram(Protocol):
    """What `components/<name>/run.py` offers."""

    NAME: str
    Inputs: type[StepInputs]

    def depends_on(self, config: Any, inputs: Any, store: Store) -> dict[str, Json]:
        """What the result depends on besides code, settings and inputs."""
        ...

    def run(self, config: Any, inputs: Any, context: StepContext) -> Ref:
        """The whole step."""
        ...


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a step ended."""

    step: str
    key: str
    state: Literal["done", "reused"]
    seconds: float
    output: Ref
    measurements: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Plan:
    """A step's work before it is done: the key of its record, and what the key was made from besides the settings."""

    code: str
    key: str
    depends_on: dict[str, Json]


def make_plan(program: Any, config: StepConfig, inputs: StepInputs, store: Store) -> Plan:
    """Compute the key, under this process's environment; a launcher sets it as the step's pod will have it."""
    step: StepProgram = program
    depends_on = step.depends_on(config, inputs, store)
    code = code_version(program.__name__.removesuffix(".run"))
    key = step_key(step.NAME, code, config.key_fields(), inputs.key_fields(), depends_on)
    return Plan(code, key, depends_on)


def find_record(store: Store, step: str, key: str) -> Record | None:
    """The published record, protected from a garbage collection that runs now; None where there is none."""
    record = read_record(store, step, key)
    if record is not None and not keep(store, record_name(step, key)):
        return None  # It was taken just now.
    return record


def make_outcome(
    store: Store,
    record: Record,
    state: Literal["done", "reused"],
    *,
    started: float,
    run_id: str | None = None,
    used: Mapping[str, str] = MappingProxyType({}),
) -> Outcome:
    """Point the run to the record, and say how the step ended. `started` is of `time.monotonic()`."""
    if run_id is not None:
        runs.point(store, run_id, record.step, record.key, used=used)
    output = record.output_ref()
    return Outcome(
        step=record.step,
        key=record.key,
        state=state,
        seconds=time.monotonic() - started,
        output=output,
        measurements=read_measurements(store, record.step, record.key, output),
    )


def execute(
    program: Any,
    config: StepConfig,
    inputs: StepInputs,
    store: Store,
    reporter: Reporter,
    *,
    run_id: str | None = None,
    used: Mapping[str, str] = MappingProxyType({}),
    scratch: Path | None = None,
) -> Outcome:
    """Return the step's published result, working it out only where there is none yet.

    `program` is a module that fulfils `StepProgram`. With a `run_id` the run's pointer is set to the record.
    Safe to call again after a kill at any time, and from several processes at once: outputs are content-addressed and
    the record is created last, once. `used` stands in the pointer to it (`runs.point`). `scratch` is where the private
    folder is made (the system's default if None).
    """
    started = time.monotonic()
    step: StepProgram = program
    plan = make_plan(program, config, inputs, store)
    record = find_record(store, step.NAME, plan.key)
    state: Literal["done", "reused"] = "reused"
    if record is None:
        state = "done"
        record = _work(step, config, inputs, store, reporter, plan, scratch)
    return make_outcome(store, record, state, started=started, run_id=run_id, used=used)


def find(program: Any, config: StepConfig, inputs: StepInputs, store: Store) -> Outcome | None:
    """The step's result where it is published already, as `execute` would return it; None where there is work to do."""
    started = time.monotonic()
    record = find_record(store, program.NAME, make_plan(program, config, inputs, store).key)
    return make_outcome(store, record, "reused", started=started) if record is not None else None


def _work(
    step: StepProgram,
    config: StepConfig,
    inputs: StepInputs,
    store: Store,
    reporter: Reporter,
    plan: Plan,
    scratch: Path | None,
) -> Record:
    started = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix=f"conveyor-{step.NAME}-", dir=scratch))
    try:
        context = StepContext(store, Blobs(store), plan.key, reporter, folder)
        output = step.run(config, inputs, context)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    # Measurements first: once the record stands, everything that belongs to it stands.
    seconds = round(time.monotonic() - started, 3)
    write_measurements(store, step.NAME, plan.key, output, {"seconds": seconds, **context.measure})
    return publish_record(
        store,
        Record(
            step=step.NAME,
            key=plan.key,
            code=plan.code,
            config=config.key_fields(),
            inputs=inputs.key_fields(),
            depends_on=dict(plan.depends_on),
            output=output.to_value(),
        ),
    )
