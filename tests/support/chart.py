"""The chart, rendered by the Helms of this machine."""

import functools
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import yaml

from support import s3_servers

Object = dict[str, Any]
CHART = Path(__file__).resolve().parents[2] / "charts" / "conveyor"
KUBERNETES = "1.35.0"
Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as quick


class RefusedError(Exception):
    """Helm's own words."""


def tool(name: str) -> str | None:
    """A program: on the PATH, beside MinIO and versitygw, or in the folder `extra` of tools/checkers.py."""
    folder = s3_servers.binaries()
    for place in (folder, folder.parent / "extra" if folder else None):
        if place is not None and (place / name).is_file():
            return str(place / name)
    return shutil.which(name)


@functools.cache
def helms() -> dict[str, str]:
    """Helm's major version → the program, for each that is here."""
    found = {}
    for name in ("helm", "helm3", "helm4"):
        program = tool(name)
        if program is not None:
            said = subprocess.run([program, "version", "--short"], capture_output=True, text=True, check=True)
            found[said.stdout.strip().lstrip("v")[:1]] = program
    return found


def render(
    values: Object | None = None,
    *,
    release: str = "conveyor",
    namespace: str = "ml",
    helm: str | None = None,
) -> list[Object]:
    """The objects of an installation with these values. Raises `RefusedError`."""
    program = helm or next(iter(helms().values()))
    text = template(program, release, namespace, json.dumps(values or {}))
    return [each for each in yaml.load_all(text, Loader=Loader) if each]


@functools.cache
def template(program: str, release: str, namespace: str, values: str) -> str:
    """What `helm template` prints."""
    command = [program, "template", release, str(CHART), "--namespace", namespace, "--values", "-"]
    command += ["--kube-version", KUBERNETES]
    done = subprocess.run(
        command,
        input=values,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "KUBECONFIG": os.devnull},
    )
    if done.returncode:
        raise RefusedError(done.stderr)
    return done.stdout


def one(objects: list[Object], kind: str, name: str | None = None) -> Object:
    """The object of that kind (and name)."""
    (found,) = [each for each in objects if each["kind"] == kind and name in {None, each["metadata"]["name"]}]
    return found


def pod_templates(objects: list[Object]) -> dict[str, Object]:
    """`kind/name` → metadata and spec of the pods that it makes."""
    found = {}
    for each in objects:
        spec = each.get("spec") or {}
        place = {
            "Pod": each,
            "Job": spec.get("template"),
            "Deployment": spec.get("template"),
            "StatefulSet": spec.get("template"),
            "CronJob": spec.get("jobTemplate", {}).get("spec", {}).get("template"),
        }.get(each["kind"])
        if place is not None:
            found[f"{each['kind']}/{each['metadata']['name']}"] = place
    return found
