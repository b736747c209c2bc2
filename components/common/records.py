"""Records: what a step did, published once under its key, last of all (promise 2 of the design)."""

import json
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from components.common.canonical import Json, canonical_json, digest_json
from components.common.errors import StoreError
from components.common.refs import Digest, Ref, parse_ref
from components.common.store.base import NotFoundError, Store

RECORD_VERSION = 1


class Record(BaseModel):
    """A finished step: what it was asked and what came out. Holds no clock, host or path."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True)

    kind: Literal["record"] = "record"
    version: int = RECORD_VERSION
    step: str
    key: str
    """64 hex digits: digest of all that the result depends on."""
    code: Digest
    config: dict[str, Any]
    """The part of the step's settings that the result depends on."""
    inputs: dict[str, Any]
    """Input name → reference (as JSON), null for an optional one that was not given."""
    depends_on: dict[str, Any]
    """What the result depends on besides: builds, world size, a listing, the champion that was read."""
    output: dict[str, Any]
    """The resulting reference, as JSON."""

    def output_ref(self) -> Ref:
        return parse_ref(self.output, where=record_name(self.step, self.key))


def step_key(
    step: str, code: str, config: dict[str, Any], inputs: dict[str, Any], depends_on: dict[str, Json]
) -> str:
    """The name of a result before it exists: 64 hex digits over everything that it depends on."""
    whole: dict[str, Json] = {
        "step": step,
        "code": code,
        "config": config,
        "inputs": inputs,
        "depends_on": depends_on,
    }
    return digest_json(whole).removeprefix("sha256:")


def record_name(step: str, key: str) -> str:
    return f"records/{step}/{key}.json"


def measurements_name(step: str, key: str, output: Ref) -> str:
    """Named by the output too: of two writers that chose differently, each choice keeps the figures behind it."""
    return f"measurements/{step}/{key}/{output.digest().removeprefix('sha256:')}.json"


def read_record(store: Store, step: str, key: str) -> Record | None:
    """The published record, or None. Raises `StoreError` for one that is damaged or of an unknown version."""
    name = record_name(step, key)
    try:
        data, _ = store.read(name)
    except NotFoundError:
        return None
    return parse_record(data, where=f"{store.url}/{name}")


def parse_record(data: bytes, *, where: str) -> Record:
    try:
        value = json.loads(data)
    except ValueError as error:
        raise StoreError("a record is not JSON", where=where, found=str(error)) from error
    version = value.get("version") if isinstance(value, dict) else None
    if version != RECORD_VERSION:
        raise StoreError(
            "a record of an unknown version",
            where=where,
            expected=f"version {RECORD_VERSION}",
            found=f"version {version!r}",
            todo="it was written by another release of Conveyor: upgrade this one, or use another store",
        )
    try:
        return Record.model_validate_json(data)
    except ValidationError as error:
        raise StoreError("a damaged record", where=where, found=str(error.errors()[0])) from error


def publish_record(store: Store, record: Record) -> Record:
    """Publish once: the first writer wins, and everybody returns what the first one wrote."""
    name = record_name(record.step, record.key)
    if store.create(name, canonical_json(record.model_dump(mode="json"))):
        return record
    winner = read_record(store, record.step, record.key)
    if winner is None:
        raise StoreError(
            "a record vanished while it was being published",
            where=f"{store.url}/{name}",
            todo="run again; keep 'conveyor gc' grace above the longest step",
        )
    return winner


def write_measurements(store: Store, step: str, key: str, output: Ref, values: dict[str, Json]) -> None:
    """Times, latencies, hosts: beside the record, never in it. The first writer's stay, as the record's do."""
    store.create(measurements_name(step, key, output), canonical_json(values))


def read_measurements(store: Store, step: str, key: str, output: Ref) -> dict[str, Any]:
    """What was measured while the step made `output`; empty where nothing was."""
    name = measurements_name(step, key, output)
    try:
        data, _ = store.read(name)
    except NotFoundError:
        return {}
    try:
        value = json.loads(data)
    except ValueError as error:
        raise StoreError(
            "damaged measurements", where=f"{store.url}/{name}", found=str(error), todo="delete that object"
        ) from error
    return value if isinstance(value, dict) else {}
