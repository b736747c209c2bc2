"""When is there nothing to do? The stamp: a digest of all that set-up depends on, written when it has ended."""

import csv
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

STAMP = "conveyor-setup.json"
"""Inside the virtual environment; there only while the last set-up ran to its end."""


@dataclass(frozen=True)
class Stamp:
    """What the finished set-up was made from, and what became of Horovod."""

    digest: str
    horovod: str
    """`gloo`, `nccl`, or why it is missing."""


def digest_of(files: Iterable[Path], facts: Iterable[str]) -> str:
    """Digest of the files' bytes and of the facts (Python, extras, place), in order."""
    digest = hashlib.sha256()
    for path in files:
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    for fact in facts:
        digest.update(hashlib.sha256(fact.encode()).digest())
    return digest.hexdigest()


def read_stamp(venv: Path) -> Stamp | None:
    """The stamp, None where there is none or where it cannot be read."""
    try:
        return Stamp(**json.loads((venv / STAMP).read_text()))
    except (OSError, ValueError, TypeError):
        return None


def write_stamp(venv: Path, stamp: Stamp) -> None:
    """Write whole or not at all."""
    partial = venv / f"{STAMP}.{os.getpid()}"
    partial.write_text(json.dumps(asdict(stamp)))
    partial.replace(venv / STAMP)


def clear_stamp(venv: Path) -> None:
    """From here on the environment counts as unfinished."""
    with suppress(FileNotFoundError):
        (venv / STAMP).unlink()


def is_in_its_place(venv: Path) -> bool:
    """Was it made where it lies? A moved or copied environment's scripts start a Python that is elsewhere or gone."""
    try:
        head = (venv / "bin" / "pip").read_text(encoding="utf-8", errors="replace")[:1000]
        match = re.search(r"""(/[^\n"']*)/python[\d.]*""", head)
        return match is not None and (venv / "bin").samefile(match[1])
    except OSError:
        return False


def remove_half_installed(site_packages: Path) -> list[str]:
    """Forget packages that a killed pip left half copied, so that the next pip installs them again.

    pip takes a package for installed as soon as its metadata is there. It writes INSTALLER after all files, so a
    package without it, or with a file of its RECORD missing, was interrupted. (Sizes say nothing: some packages
    overwrite each other's `__init__.py`.)
    """
    removed = []
    for info in sorted(site_packages.glob("*.dist-info")):
        if not is_whole(info):
            shutil.rmtree(info)
            removed.append(info.name.removesuffix(".dist-info"))
    for leftover in site_packages.glob("~*"):  # what pip moved aside while it replaced a package
        shutil.rmtree(leftover, ignore_errors=True)
    return removed


def is_whole(info: Path) -> bool:
    """Did pip finish the package that this dist-info folder describes?"""
    if not (info / "INSTALLER").exists():
        return False
    try:
        rows = list(csv.reader((info / "RECORD").read_text(encoding="utf-8").splitlines()))
    except OSError:
        return False
    return all(row[0].endswith(".pyc") or (info.parent / row[0]).exists() for row in rows)
