"""JSON schemas for kubeconform, from the API server's own OpenAPI document: no download, and CRDs are among them."""

import json
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from support.rendered import tool

Schema = dict[str, Any]
OURS = (
    "api/v1",
    "apis/apps/v1",
    "apis/batch/v1",
    "apis/kubeflow.org/v2beta1",
    "apis/networking.k8s.io/v1",
    "apis/policy/v1",
    "apis/rbac.authorization.k8s.io/v1",
)
LOCATION = "{{.ResourceKind}}{{.KindSuffix}}.json"


def write_schemas(folder: Path) -> str:
    """One file a kind, strict: unknown fields are errors. Returns kubeconform's -schema-location."""
    paths = json.loads(_get("/openapi/v3"))["paths"]
    for path, entry in paths.items():
        if path in OURS:
            schemas = json.loads(_get(entry["serverRelativeURL"]))["components"]["schemas"]
            for schema in schemas.values():
                _close(schema)
            for name, schema in schemas.items():
                for kind in schema.get("x-kubernetes-group-version-kind", []):
                    _write(folder, name, kind, schemas)
    return f"{folder}/{LOCATION}"


def complaints(manifests: str, location: str) -> str:
    """What kubeconform says of the documents; empty where they are valid."""
    command = [tool("kubeconform"), "-strict", "-schema-location", location, "-output", "json", "-"]
    done = subprocess.run(command, input=manifests, capture_output=True, text=True, check=False)
    found = json.loads(done.stdout or "{}").get("resources", [])
    told = [f"{each.get('kind')}/{each.get('name')}: {each.get('msg')}" for each in found]
    return "\n".join(told) or ("" if done.returncode == 0 else done.stderr or done.stdout)


def _get(path: str) -> str:
    done = subprocess.run(["kubectl", "get", "--raw", path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _write(folder: Path, name: str, kind: Schema, schemas: Schema) -> None:
    group = kind["group"].partition(".")[0]
    suffix = "-".join(["", *([group] if group else []), kind["version"]]).lower()
    document = {"$ref": f"#/components/schemas/{name}", "components": {"schemas": schemas}}
    (folder / f"{kind['kind'].lower()}{suffix}.json").write_text(json.dumps(document))


def _close(schema: Any) -> None:
    """Forbid what is not declared, everywhere below; drop what is OpenAPI's own."""
    if isinstance(schema, list):
        for each in _dicts(schema):
            _close(each)
        return
    if "properties" in schema and not schema.get("x-kubernetes-preserve-unknown-fields"):
        schema.setdefault("additionalProperties", False)
    for key in ("default", "format", "nullable"):
        schema.pop(key, None)
    for key in ("properties", "definitions"):
        for each in _dicts(schema.get(key, {}).values()):
            _close(each)
    for key in ("items", "additionalProperties", "allOf", "anyOf", "oneOf"):
        if isinstance(schema.get(key), dict | list):
            _close(schema[key])


def _dicts(values: Iterable[Any]) -> list[Schema]:
    return [value for value in values if isinstance(value, dict)]
