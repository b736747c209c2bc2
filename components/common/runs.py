"""Runs: `runs/<id>/<step>.json` points to records, so that one step finds what another left."""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from components.common.begun import is_superseded
from components.common.canonical import Json, canonical_json
from components.common.errors import InputError, StoreError
from components.common.records import read_record
from components.common.refs import Ref
from components.common.store.base import NotFoundError, Store

RUN_ID = re.compile(r"[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?")
JOB = "CONVEYOR_JOB"
"""Names the Kubernetes Job (its uid) that this process belongs to, where several Jobs wait for each other."""


@dataclass(frozen=True, slots=True)
class Pointer:
    """One step of a run: the key of its record."""

    step: str
    key: str
    job: str | None = None
    """The Job that set it."""
    used: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Step → the Job that had made what was used of it."""


def check_run_id(run_id: str) -> str:
    """A run's name becomes part of object names and of Kubernetes names. Raises `InputError`."""
    if not RUN_ID.fullmatch(run_id):
        raise InputError(
            "this is not a usable run name",
            expected="up to 63 of a-z, 0-9, '-' and '.', beginning and ending with a letter or digit",
            found=repr(run_id),
        )
    return run_id


def point(
    store: Store, run_id: str, step: str, key: str, *, used: Mapping[str, str] = MappingProxyType({})
) -> None:
    """Note that `step` of the run is the record `key`. A rerun of the same name points anew.

    In a Kubernetes Job that waits for others, the note says which Job it was and whose results it `used`. One that
    another has followed leaves the run to that one.
    """
    value: dict[str, Json] = {"version": 1, "step": step, "key": key}
    if job := this_job():
        if is_superseded(store, run_id, step, job):
            return
        value |= {"job": job, "used": dict(used)}
    store.put(f"runs/{run_id}/{step}.json", canonical_json(value))


def this_job() -> str | None:
    """The Job that this process belongs to, None where nobody said."""
    return os.environ.get(JOB) or None


def read_pointer(store: Store, run_id: str, step: str) -> Pointer | None:
    name = f"runs/{run_id}/{step}.json"
    try:
        data, _ = store.read(name)
    except NotFoundError:
        return None
    try:
        value = json.loads(data)
        if value["version"] != 1:
            raise KeyError(f"version {value['version']}")
        return Pointer(
            step=str(value["step"]),
            key=str(value["key"]),
            job=value.get("job"),
            used=dict(value.get("used", {})),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(
            "a run's pointer is damaged", where=f"{store.url}/{name}", found=repr(error)
        ) from error


def output_of(store: Store, run_id: str, step: str) -> Ref | None:
    """The reference that `step` of the run produced, None where it has not finished."""
    pointer = read_pointer(store, run_id, step)
    record = read_record(store, step, pointer.key) if pointer else None
    return record.output_ref() if record else None


def list_runs(store: Store) -> list[str]:
    """Names of all runs, sorted."""
    return sorted({info.key.split("/")[1] for info in store.list("runs/") if info.key.count("/") >= 2})
