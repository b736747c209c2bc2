#!/usr/bin/env python3
"""Print what an image installs: the dependencies of pyproject.toml and of some of its extras, one a line.

The image's big layer depends on this list, and not on the rest of pyproject.toml.
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


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("pyproject", type=Path)
    parser.add_argument("extras", nargs="*")
    arguments = parser.parse_args(argv)
    project = tomllib.loads(arguments.pyproject.read_text(encoding="utf-8"))["project"]
    print("\n".join([*requirements(project, arguments.extras), *HOROVOD_NEEDS]))
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


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
