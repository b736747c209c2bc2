#!/usr/bin/env python3
"""Write what an image installs: requirements.txt, and torch-constraints.txt for the layers below it.

`requirements.py SOURCE OUT EXTRA…` reads pyproject.toml and constraints.txt in SOURCE. The large layers depend on
these two files only: another line of pyproject.toml rebuilds nothing, a new version of some small package neither
torch's 3 GB nor Horovod.
"""

import argparse
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

HOROVOD_NEEDS = ["cloudpickle", "packaging", "psutil", "pyyaml"]
"""Horovod comes as a wheel of our own making, without what it asks the index for."""
OWN_EXTRA = re.compile(r"^conveyor\[([\w,\s-]+)\]$")
TORCH_LAYER = re.compile(
    r"^(torch|torchvision|triton|nvidia-.*|cuda-.*|numpy|pillow|sympy|mpmath|networkx|jinja2|markupsafe|fsspec|filelock|"
    r"typing[-_]extensions|pip|setuptools|wheel|packaging|cloudpickle|psutil|pyyaml|cffi|pycparser|cmake)==",
    re.IGNORECASE,
)
"""Torch, what it needs, and what builds Horovod. One that is missing here is installed unpinned at first, and as the
lock has it in the next layer: a waste of bytes, not an error."""


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("extras", nargs="*")
    arguments = parser.parse_args(argv)
    project = tomllib.loads((arguments.source / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lock = (arguments.source / "constraints.txt").read_text(encoding="utf-8").splitlines()
    write(arguments.out / "requirements.txt", [*requirements(project, arguments.extras), *HOROVOD_NEEDS])
    write(arguments.out / "torch-constraints.txt", [line for line in lock if TORCH_LAYER.match(line)])
    return 0


def requirements(project: dict[str, Any], extras: list[str]) -> list[str]:
    """What `pip install .[extras]` would install besides the project; extras that name our own are followed."""
    lines: list[str] = list(project["dependencies"])
    todo, seen = list(extras), set[str]()
    while todo:
        extra = todo.pop(0)
        if extra in seen:
            continue
        seen.add(extra)
        for line in project["optional-dependencies"][extra]:
            if own := OWN_EXTRA.match(line):
                todo.extend(name.strip() for name in own[1].split(","))
            else:
                lines.append(line)
    return sorted(set(lines))


def write(path: Path, lines: list[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
