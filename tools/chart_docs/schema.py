"""values.schema.json: types from the defaults, the pipeline's settings from their own schema."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from chart_docs.values import Value

Schema = dict[str, Any]

QUANTITIES: Schema = {"type": "object", "additionalProperties": {"type": ["string", "number"]}}
POD_RESOURCES: Schema = {
    "description": "Requests and limits of a container, as Kubernetes writes them.",
    "type": "object",
    "properties": {"requests": QUANTITIES, "limits": QUANTITIES, "claims": {"type": "array"}},
    "additionalProperties": False,
}

# The fields of Kubernetes 1.35. Null takes a default of the chart away.
NUMBER: Schema = {"type": ["integer", "null"], "minimum": 0}
SWITCH: Schema = {"type": ["boolean", "null"]}
OBJECT: Schema = {"type": ["object", "null"]}


def _choice(*names: str) -> Schema:
    return {"enum": [*names, None]}


PROFILE: Schema = {
    "type": ["object", "null"],
    "properties": {
        "type": {"enum": ["RuntimeDefault", "Localhost", "Unconfined"]},
        "localhostProfile": {"type": ["string", "null"]},
    },
    "additionalProperties": False,
}


BOTH: Schema = {
    "runAsUser": NUMBER | {"minimum": 1},  # root is no user of a pod that may not be root's
    "runAsGroup": NUMBER,
    "runAsNonRoot": SWITCH,
    "seccompProfile": PROFILE,
    "appArmorProfile": PROFILE,
    "seLinuxOptions": OBJECT,
    "windowsOptions": OBJECT,
}
POD_SECURITY: Schema = {
    "description": "A pod's security context, as Kubernetes writes it.",
    "type": "object",
    "properties": {
        **BOTH,
        "fsGroup": NUMBER,
        "fsGroupChangePolicy": _choice("OnRootMismatch", "Always"),
        "seLinuxChangePolicy": _choice("Recursive", "MountOption"),
        "supplementalGroups": {"type": ["array", "null"], "items": {"type": "integer", "minimum": 0}},
        "supplementalGroupsPolicy": _choice("Merge", "Strict"),
        "sysctls": {"type": ["array", "null"], "items": {"type": "object"}},
    },
    "additionalProperties": False,
}
NAMES: Schema = {"type": ["array", "null"], "items": {"type": "string"}}
CONTAINER_SECURITY: Schema = {
    "description": "A container's security context, as Kubernetes writes it.",
    "type": "object",
    "properties": {
        **BOTH,
        "allowPrivilegeEscalation": SWITCH,
        "capabilities": {
            "type": ["object", "null"],
            "properties": {"add": NAMES, "drop": NAMES},
            "additionalProperties": False,
        },
        "privileged": SWITCH,
        "procMount": _choice("Default", "Unmasked"),
        "readOnlyRootFilesystem": SWITCH,
    },
    "additionalProperties": False,
}


def values_schema(values: Iterable[Value], config: Mapping[str, Any]) -> str:
    """The schema's text. `config` is what `conveyor config --schema` prints."""
    settings = dict(config)
    definitions = {name: _older(part) for name, part in settings.pop("$defs", {}).items()}
    settings.pop("$schema", None)
    definitions["Config"] = _older(settings)
    definitions["PodResources"] = POD_RESOURCES
    definitions["PodSecurityContext"] = POD_SECURITY
    definitions["SecurityContext"] = CONTAINER_SECURITY
    schema = {
        # Of 2019 and later nothing is used that older Helms would not read.
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Values of the chart conveyor",
        "type": "object",
        # Helm itself passes `global` to every chart.
        "properties": {value.path[-1]: _of(value) for value in values} | {"global": {"type": "object"}},
        "additionalProperties": False,
        "$defs": definitions,
    }
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def _of(value: Value) -> Schema:
    found: Schema = {}
    if value.description:
        found["description"] = value.description
    if "$ref" in value.extra:
        # In this draft nothing beside $ref counts.
        return found | {"allOf": [{"$ref": value.extra["$ref"]}]}
    if value.children:
        found["type"] = "object"
        found["properties"] = {child.path[-1]: _of(child) for child in value.children}
        found["additionalProperties"] = False
        return found
    found["type"] = _type(value.default)
    if found["type"] != "object":
        found["default"] = value.default
    return found | value.extra


def _type(default: Any) -> str:
    kinds: dict[type, str] = {
        bool: "boolean",
        int: "integer",
        float: "number",
        str: "string",
        list: "array",
        dict: "object",
    }
    return kinds[type(default)]


def _older(part: Any) -> Any:
    """A schema of draft 2020-12 in draft 7's words: `prefixItems` are `items`; $ref stands alone."""
    if isinstance(part, list):
        return [_older(each) for each in part]
    if not isinstance(part, dict):
        return part
    found = {name: _older(each) for name, each in part.items() if name != "title"}
    if "properties" in part:  # a setting may be called title
        found["properties"] = {name: _older(each) for name, each in part["properties"].items()}
    if "prefixItems" in found:
        found["items"] = found.pop("prefixItems")
        found["additionalItems"] = False
    if "$ref" in found and len(found) > 1:
        found["allOf"] = [{"$ref": found.pop("$ref")}]
    return found
