#!/usr/bin/env python3
"""Write what an image installs: requirements.txt, and the part of the lock that each of its layers reads.

`requirements.py SOURCE OUT EXTRA…` reads pyproject.toml and constraints.txt in SOURCE. The large layers depend on
these files only: another line of pyproject.toml or another version of a checker rebuilds nothing, a new version of some
small package neither torch's 3 GB nor Horovod.
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
    r"^(torch|torchvision|triton|nvidia-(?!dali|nvimgcodec|nvjpeg2k|nvtiff|libnvcomp).*|cuda-.*|numpy|pillow|sympy|mpmath|networkx|jinja2|markupsafe|fsspec|filelock|"
    r"typing[-_]extensions|pip|setuptools|wheel|packaging|cloudpickle|psutil|pyyaml|cffi|pycparser|cmake)==",
    re.IGNORECASE,
)
"""Torch, what it needs, and what builds Horovod; not DALI and its codecs, of NVIDIA as well. One that is missing here is installed unpinned at first, and as the
lock has it in the next layer: a waste of bytes, not an error."""
OWN_LAYER = re.compile(r"^(pip|setuptools|scikit-learn)==", re.IGNORECASE)
"""What makes our wheel, and what the example's data are taken from."""
NOT_IN_IMAGES = ("test", "lint")
"""Extras whose own packages, such as a checker, no layer has to know about."""


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("extras", nargs="*")
    arguments = parser.parse_args(argv)
    project = tomllib.loads((arguments.source / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lock = (arguments.source / "constraints.txt").read_text(encoding="utf-8").splitlines()
    write(arguments.out / "requirements.txt", [*requirements(project, arguments.extras), *HOROVOD_NEEDS])
    write(arguments.out / "constraints.txt", constraints(lock, project))
    write(arguments.out / "torch-constraints.txt", [line for line in lock if TORCH_LAYER.match(line)])
    write(arguments.out / "own-constraints.txt", [line for line in lock if OWN_LAYER.match(line)])
    return 0


def constraints(lock: list[str], project: dict[str, Any]) -> list[str]:
    """The lock's pins without those that tests and checkers ask for by name."""
    extras = project["optional-dependencies"]
    dropped = {name_of(line) for extra in NOT_IN_IMAGES for line in extras.get(extra, [])}
    return [line for line in lock if line and not line.startswith("#") and name_of(line) not in dropped]


def name_of(line: str) -> str:
    """The package that a pin or a requirement is about, in the one spelling of packaging's rules."""
    return re.sub(r"[-_.]+", "-", re.split(r"[\s\[<>=!~;]", line, maxsplit=1)[0]).lower()


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
