"""An overlay's digest: Job templates cannot be changed, so what changes them must change the Jobs' names.

kustomize cannot hash, so `names.yaml` in an overlay, a pair of its built-in transformers, is written here.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from components.cluster.names import RUN
from components.common.errors import InputError
from pipelines.manifests.steps import RUN_PREFIX

KUSTOMIZATION = "kustomization.yaml"
NAMES = "names.yaml"
LENGTH = 10
TEMPLATES = (
    ("Job", "spec/template"),
    ("MPIJob", "spec/mpiReplicaSpecs/Launcher/template"),
    ("MPIJob", "spec/mpiReplicaSpecs/Worker/template"),
)
LISTS = ("resources", "components", "transformers", "generators", "configurations", "crds")
HEAD = f"""\
# The names of this overlay's Jobs end in a digest of its files: Job templates cannot be changed, so other settings, another
# image or another patch need other names. `conveyor manifests DIR` writes it anew (DIR: the folder of this file). By hand:
# put anything else in the place of the digest, {RUN} included.
"""


def overlay_digest(folder: Path) -> str:
    """Digest of all files that the overlay is made of, but for `names.yaml` and for secrets. Raises `InputError`."""
    found = hashlib.sha256()
    for file in sorted(set(_files(folder.resolve()))):
        if file.name != NAMES:
            found.update(hashlib.sha256(_read(file)).digest())
    return found.hexdigest()[:LENGTH]


def names_file(folder: Path) -> str:
    """The text of the overlay's `names.yaml`."""
    digest = overlay_digest(folder)
    suffix: dict[str, Any] = {
        "apiVersion": "builtin",
        "kind": "SuffixTransformer",
        "metadata": {"name": "suffix"},
        "suffix": f"-{digest}",
        "fieldSpecs": [{"kind": kind, "path": "metadata/name"} for kind in ("Job", "MPIJob")],
    }
    paths = [("Job", "metadata/labels"), ("MPIJob", "metadata/labels")]
    paths += [(kind, f"{template}/metadata/labels") for kind, template in TEMPLATES]
    label: dict[str, Any] = {
        "apiVersion": "builtin",
        "kind": "LabelTransformer",
        "metadata": {"name": "run"},
        "labels": {RUN: f"{RUN_PREFIX}-{digest}"},
        "fieldSpecs": [{"kind": kind, "path": path, "create": True} for kind, path in paths],
    }
    return HEAD + yaml.safe_dump_all([suffix, label], sort_keys=False)


def overlays(root: Path) -> list[Path]:
    """The folders at or below `root` whose Jobs get a digest: their kustomization names `names.yaml`."""
    return [
        file.parent
        for file in sorted(root.rglob(KUSTOMIZATION))
        if NAMES in (_parse(file).get("transformers") or [])
    ]


def _files(folder: Path) -> Iterator[Path]:
    file = folder / KUSTOMIZATION
    yield file
    content = _parse(file)
    named: list[str] = [name for key in LISTS for name in content.get(key) or [] if "\n" not in name]
    named += [
        each["path"]
        for key in ("patches", "replacements")
        for each in content.get(key) or []
        if "path" in each
    ]
    for generator in content.get("configMapGenerator") or []:
        named += [entry.rpartition("=")[2] for key in ("files", "envs") for entry in generator.get(key) or []]
    for name in named:
        path = (folder / name).resolve()
        if path.is_dir():
            yield from _files(path)
        elif (
            "://" not in name and path.name != NAMES
        ):  # another repository's base is fixed by its ref, here in the text
            yield path


def _parse(file: Path) -> dict[str, Any]:
    try:
        value = yaml.safe_load(_read(file))
    except yaml.YAMLError as error:
        raise InputError("a kustomization is not YAML", where=str(file), found=str(error)) from None
    return value if isinstance(value, dict) else {}


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise InputError(
            "a file of the overlay cannot be read", where=str(file), found=error.strerror or str(error)
        ) from None
