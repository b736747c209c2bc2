"""Runs: `runs/<id>/<step>.json` points to records, so that one step finds what another left."""

import json
import re
from dataclasses import dataclass

from components.common.canonical import canonical_json
from components.common.errors import InputError, StoreError
from components.common.records import read_record
from components.common.refs import Ref
from components.common.store.base import NotFoundError, Store

RUN_ID = re.compile(r"[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class Pointer:
    """One step of a run: the key of its record."""

    step: str
    key: str


def check_run_id(run_id: str) -> str:
    """A run's name becomes part of object names and of Kubernetes names. Raises `InputError`."""
    if not RUN_ID.fullmatch(run_id):
        raise InputError(
            "this is not a usable run name",
            expected="up to 63 of a-z, 0-9, '-' and '.', beginning and ending with a letter or digit",
            found=repr(run_id),
        )
    return run_id


def point(store: Store, run_id: str, step: str, key: str) -> None:
    """Note that `step` of the run is the record `key`. A rerun of the same name points anew."""
    store.put(f"runs/{run_id}/{step}.json", canonical_json({"version": 1, "step": step, "key": key}))


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
        return Pointer(step=str(value["step"]), key=str(value["key"]))
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
