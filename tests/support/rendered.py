"""Overlays as kubectl would apply them, and the tools that look at them."""

import shutil
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.cli import invoke
from support.s3_servers import REPOSITORY, binaries

MANIFESTS = REPOSITORY / "manifests"
OVERLAYS = sorted(path.name for path in (MANIFESTS / "overlays").iterdir())
Object = dict[str, Any]


def tool(name: str) -> str:
    """A program on the PATH or among the cluster's; skips the test where there is none."""
    folder = binaries()
    for place in (folder, folder.parent / "extra" if folder else None):  # extra: tools/checkers.py
        if place is not None and (place / name).is_file():
            return str(place / name)
    found = shutil.which(name)
    if found is None:
        go = Path.home() / "go" / "bin" / name
        found = str(go) if go.is_file() else None
    if found is None:
        pytest.skip(f"there is no {name}")
    return found


@cache
def rendered(overlay: str, root: Path = MANIFESTS) -> str:
    """What `kubectl apply -k` sends."""
    done = subprocess.run(
        [tool("kustomize"), "build", str(root / "overlays" / overlay)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr, done.stderr
    return done.stdout


def combine(root: Path, resources: Sequence[str], components: Sequence[str]) -> str:
    """Write an overlay of these parts into a copy of manifests/, as a person does, and return its name."""
    name = "-and-".join((*resources, *components))
    folder = root / "overlays" / name
    folder.mkdir()
    shutil.copy(root / "overlays" / "s3" / "config.yaml", folder)
    content = yaml.safe_load((root / "overlays" / "s3" / "kustomization.yaml").read_text())
    content["resources"] = [f"../../{each}" for each in ("common", *resources)]
    content["components"] = [f"../../{each}" for each in components]
    del content["patches"]
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(content))
    assert invoke(["manifests", str(folder)]) == 0
    return name


def objects(overlay: str, root: Path = MANIFESTS) -> list[Object]:
    return list(yaml.safe_load_all(rendered(overlay, root)))


def templates(overlay: str, root: Path = MANIFESTS) -> list[tuple[str, Object]]:
    """Name and template of every pod that the overlay makes."""
    found = []
    for each in objects(overlay, root):
        name, spec = f"{each['kind']}/{each['metadata']['name']}", each.get("spec", {})
        if each["kind"] in ("Job", "StatefulSet", "Deployment"):
            found.append((name, spec["template"]))
        elif each["kind"] == "CronJob":
            found.append((name, spec["jobTemplate"]["spec"]["template"]))
        elif each["kind"] == "MPIJob":
            found += [(name, replica["template"]) for replica in spec["mpiReplicaSpecs"].values()]
    return found
