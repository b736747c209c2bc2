"""What a Kubeflow Pipelines server refuses, for `kfp_backend.py`: specs, parameters, cron expressions, list queries."""

import base64
import json
import re
from collections.abc import Iterable
from typing import Any

import yaml

Object = dict[str, Any]

INVALID, NOT_FOUND, EXISTS, DENIED, INTERNAL, UNAUTHENTICATED = 3, 5, 6, 7, 13, 16

SORTABLE = {"display_name", "name", "created_at", "id"}
NAME = re.compile(r"[a-z0-9]([-.a-z0-9]*[a-z0-9])?")
DEFAULT_PAGE, MAX_PAGE = 20, 200

TYPES: dict[str, tuple[type, ...]] = {
    "STRING": (str,),
    "NUMBER_INTEGER": (int, float),
    "NUMBER_DOUBLE": (int, float),
    "BOOLEAN": (bool,),
    "LIST": (list,),
    "STRUCT": (dict,),
}


class RefusedError(Exception):
    """The server says no: a gRPC code and a message."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def known_fields(kind: str, body: Object, fields: Iterable[str]) -> None:
    unknown = set(body) - set(fields)
    if unknown:
        raise RefusedError(INVALID, f'proto: {kind}: unknown field "{min(unknown)}"')


def read_spec(data: bytes) -> Object:
    """The pipeline spec of an uploaded file; refused where it is none."""
    try:
        documents = [document for document in yaml.safe_load_all(data) if document]
    except yaml.YAMLError as error:
        raise RefusedError(INVALID, f"unable to decode yaml document: {error}") from None
    specs = [d for d in documents if isinstance(d, dict) and "pipelineInfo" in d]
    if len(specs) != 1:
        raise RefusedError(
            INVALID, "no pipeline spec is provided" if not specs else "multiple pipeline specs"
        )
    from google.protobuf import json_format  # type: ignore[import-untyped]
    from kfp.pipeline_spec import pipeline_spec_pb2

    try:
        json_format.ParseDict(specs[0], pipeline_spec_pb2.PipelineSpec())
    except json_format.ParseError as error:
        raise RefusedError(INVALID, f"invalid v2 pipeline spec: {error}") from None
    spec: Object = specs[0]
    if spec.get("schemaVersion") != "2.1.0":
        raise RefusedError(INVALID, "KFP only supports schema version 2.1.0")
    if not NAME.fullmatch(spec["pipelineInfo"].get("name", "")) or "root" not in spec:
        raise RefusedError(INVALID, "invalid v2 pipeline spec: name or root component")
    return spec


def check_parameters(spec: Object, parameters: Object) -> None:
    wanted = spec["root"].get("inputDefinitions", {}).get("parameters", {})
    for name, definition in wanted.items():
        if name not in parameters:
            if not definition.get("isOptional") and "defaultValue" not in definition:
                raise RefusedError(
                    INVALID, f"parameter {name} is not optional, yet has neither default value"
                )
            continue
        value, kinds = parameters[name], TYPES[definition["parameterType"]]
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            raise RefusedError(INVALID, f"input parameter {name} requires type {definition['parameterType']}")
    extra = set(parameters) - set(wanted)
    if extra:
        raise RefusedError(INVALID, f"parameter(s) provided are not required by pipeline: {sorted(extra)}")


CRON_BOUNDS = ((0, 59), (0, 59), (0, 23), (1, 31), (1, 12), (0, 6))
CRON_NAMES = "jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec|sun|mon|tue|wed|thu|fri|sat"
CRON_PART = re.compile(rf"(\*|\?|(\d+|{CRON_NAMES})(-(\d+|{CRON_NAMES}))?)(/[1-9]\d*)?", re.IGNORECASE)


def check_cron(text: str) -> None:
    """As the server's cron library does: seconds first, the day of the week may be left out."""
    if text.startswith("@"):
        if text in {"@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"}:
            return
        if re.fullmatch(r"@every (\d+(\.\d+)?(h|m|s))+", text):
            return
        raise RefusedError(
            INVALID, f"Schedule cron is not a supported format. Unrecognized descriptor: {text}"
        )
    fields = text.split()
    if not 5 <= len(fields) <= 6:
        raise RefusedError(
            INVALID, f"Schedule cron is not a supported format. Expected 5 to 6 fields: {text}"
        )
    for value, (low, high) in zip(fields, CRON_BOUNDS, strict=False):
        for part in value.split(","):
            numbers = [int(number) for number in re.findall(r"\d+", part.partition("/")[0])]
            if not CRON_PART.fullmatch(part) or any(not low <= number <= high for number in numbers):
                raise RefusedError(
                    INVALID, f"Schedule cron is not a supported format. Failed to parse {part}"
                )


def tasks_in_order(spec: Object) -> list[str]:
    """Names of all tasks that have a pod, in an order in which they can run."""

    def walk(dag: Object) -> list[str]:
        names: list[str] = []
        waiting = dict(dag["tasks"])
        done: set[str] = set()
        while waiting:
            name = next(n for n, task in waiting.items() if set(task.get("dependentTasks", [])) <= done)
            task = waiting.pop(name)
            done.add(name)
            component = spec["components"][task["componentRef"]["name"]]
            names += walk(component["dag"]) if "dag" in component else [task["taskInfo"]["name"]]
        return names

    return walk(spec["root"]["dag"])


def page_of(objects: list[Object], name: str, query: dict[str, str]) -> Object:
    """One page of a list: filter, sort, size and token as the API has them."""
    kept = [each for each in objects if matches(each, query.get("filter", ""))]
    sort_by = query.get("sort_by", "")
    if sort_by:
        key, _, direction = sort_by.partition(" ")
        if key not in SORTABLE or direction not in {"", "asc", "desc"}:
            raise RefusedError(INVALID, f"Invalid sorting field: {sort_by}")
        kept.sort(key=lambda each: str(each.get(key)), reverse=direction == "desc")
    size = min(int(query.get("page_size") or 0) or DEFAULT_PAGE, MAX_PAGE)
    token = query.get("page_token", "")
    try:
        start = int(base64.b64decode(token, validate=True)) if token else 0
    except ValueError:
        raise RefusedError(INVALID, "Invalid page token") from None
    page: Object = {name: kept[start : start + size], "total_size": len(kept)}
    if start + size < len(kept):
        page["next_page_token"] = base64.b64encode(str(start + size).encode()).decode()
    return page if kept else {}


def matches(each: Object, text: str) -> bool:
    if not text:
        return True
    try:
        predicates = json.loads(text)["predicates"]
    except (ValueError, KeyError, TypeError):
        raise RefusedError(INVALID, "failed to parse filter spec") from None
    for predicate in predicates:
        if predicate["key"] not in {"display_name", "name", "description", "namespace"}:
            raise RefusedError(INVALID, f"no support for filtering on unrecognized field {predicate['key']}")
        if predicate.get("operation") not in {1, "EQUALS"}:
            raise RefusedError(INVALID, f"invalid predicate operation: {predicate.get('operation')}")
        wanted = predicate.get("stringValue", predicate.get("string_value"))
        if each.get(predicate["key"]) != wanted:
            return False
    return True


def found(objects: dict[str, Object], key: str, kind: str) -> Object:
    if key not in objects:
        raise RefusedError(NOT_FOUND, f"ResourceNotFoundError: {kind} {key} not found")
    return objects[key]


def visible(run: Object) -> Object:
    return {
        key: value
        for key, value in run.items()
        if key not in {"waiting", "parameters", "working"} and value is not None
    }
