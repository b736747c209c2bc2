#!/usr/bin/env python3
"""Build one of the images: `build.py cpu|cuda|mpi|mpi-cuda`, with the bases that `make images-pin` resolved.

Build arguments are given as on docker's own command line (`--build-arg NAME=VALUE`, may be repeated; NAME alone: the
environment's value); a base given so wins over the pinned one. `docker` may be another program with its command line: CONTAINER_ENGINE names it.
"""

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from images.bases import DOCKERFILE, LOCK, ROOT, base_values

VARIANTS = {
    "cpu": ("image", "cpu"),
    "cuda": ("image", "cuda"),
    "mpi": ("mpi", "cpu"),
    "mpi-cuda": ("mpi", "cuda"),
}
"""What the Dockerfile calls it: its target, and its ACCELERATOR."""
REPOSITORY = "conveyor"


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("variant", choices=VARIANTS)
    parser.add_argument("--tag", help=f"name of the image (default: {REPOSITORY}:VARIANT)")
    parser.add_argument(
        "--network", default="host", help="of the build's commands (default: the machine's own)"
    )
    parser.add_argument("--build-arg", action="append", default=[], metavar="NAME=VALUE", dest="build_args")
    parser.add_argument("--print", action="store_true", help="print the command instead of running it")
    arguments = parser.parse_args(argv)
    engine = os.environ.get("CONTAINER_ENGINE", "docker")
    command = build_command(engine, arguments.variant, arguments.tag, arguments.network, arguments.build_args)
    if arguments.print:
        print(shlex.join(command))
        return 0
    if shutil.which(engine) is None:
        print(
            f"image: there is no {engine} on the PATH; install Docker Engine, or name another program with "
            "its command line: CONTAINER_ENGINE=podman",
            file=sys.stderr,
        )
        return 1
    return subprocess.run(command, check=False, cwd=ROOT).returncode


def build_command(engine: str, variant: str, tag: str | None, network: str, given: list[str]) -> list[str]:
    """The engine's command line; what the caller gave wins over what we set."""
    target, accelerator = VARIANTS[variant]
    values = {
        **base_values(DOCKERFILE, os.environ.get("BASE_MIRROR", ""), LOCK),
        "ACCELERATOR": accelerator,
        "VERSION": version(),
        "REVISION": revision(),
    }
    for pair in given:
        name, is_set, value = pair.partition("=")
        # As with docker: a name alone takes the environment's value, and is left at its default where there is none.
        if is_set or name in os.environ:
            values[name] = value if is_set else os.environ[name]
    options = [part for name, value in values.items() for part in ("--build-arg", f"{name}={value}")]
    return [
        *(engine, "build", "--network", network, "--file", str(DOCKERFILE.relative_to(ROOT))),
        *("--target", target, *options, "--tag", tag or f"{REPOSITORY}:{variant}", "."),
    ]


def version() -> str:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return str(project["version"])


def revision() -> str:
    """The commit, with `-dirty` where the work tree is not it; `unknown` outside a git checkout."""
    head = git("rev-parse", "HEAD")
    if not head:
        return "unknown"
    return f"{head}-dirty" if git("status", "--porcelain") else head


def git(*arguments: str) -> str:
    """What git says; empty where it cannot be asked."""
    if shutil.which("git") is None:
        return ""
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
