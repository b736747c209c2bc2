"""The images that a local cluster runs: always built, as the engine's cache makes that seconds, so that none is old."""

import os
import re
import sys
from pathlib import Path

from images.bases import LOCK, mirrored, read_lock
from images.build import VARIANTS

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
MINIO = ROOT / "docker" / "minio"
BASE = re.compile(r"^ARG +(\w+)=(\S+)$", re.MULTILINE)


def engine() -> str:
    """The program with docker's command line; CONTAINER_ENGINE names another."""
    return os.environ.get("CONTAINER_ENGINE", "docker")


def build_command(image: str) -> list[str]:
    """Builds `image` from this work tree: the variant that its tag names, or the one for CPUs."""
    tag = image.rpartition(":")[2]
    variant = tag if tag in VARIANTS else "cpu"
    return [sys.executable, str(ROOT / "tools" / "images" / "build.py"), variant, "--tag", image]


def minio_command(image: str) -> list[str]:
    """Builds MinIO's image, with the base from where `make image` takes its own: BASE_MIRROR and docker/bases.lock."""
    text = (MINIO / "Dockerfile").read_text(encoding="utf-8")
    before_the_first_stage = text.partition("\nFROM ")[0]
    lock = read_lock(LOCK)
    values = {}
    for name, base in BASE.findall(before_the_first_stage):
        digest = f"@{lock[base]}" if base in lock else ""
        values[name] = mirrored(base, os.environ.get("BASE_MIRROR", "")) + digest
    if "GOPROXY" in os.environ:
        values["GOPROXY"] = os.environ["GOPROXY"]
    options = [part for name, value in values.items() for part in ("--build-arg", f"{name}={value}")]
    return [engine(), "build", "--network", "host", *options, "--tag", image, str(MINIO)]
