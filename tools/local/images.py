"""The images that a local cluster runs: always built, as the engine's cache makes that seconds, so that none is old."""

import os
import shlex
import sys
from pathlib import Path

from images.bases import MINIO_DOCKERFILE, ROOT, base_values
from images.build import VARIANTS


def engine() -> str:
    """The program with docker's command line; CONTAINER_ENGINE names another."""
    return os.environ.get("CONTAINER_ENGINE", "docker")


def full_name(image: str) -> str:
    """The name under which a node knows an image that the engine built: where it has no registry, podman's is localhost.

    A name that a registry begins (with a dot or a port in it, or localhost) is whole. Docker leaves its own out, as nodes do.
    """
    first, slash, _ = image.partition("/")
    has_registry = bool(slash) and (first == "localhost" or "." in first or ":" in first)
    return image if has_registry or Path(engine()).name != "podman" else f"localhost/{image}"


def build_command(image: str) -> list[str]:
    """Builds `image` from this work tree: the variant that its tag names, or the one for CPUs. IMAGE_ARGS as with `make image`."""
    tag = image.rpartition(":")[2]
    variant = tag if tag in VARIANTS else "cpu"
    more = shlex.split(os.environ.get("IMAGE_ARGS", ""))
    return [sys.executable, str(ROOT / "tools" / "images" / "build.py"), variant, *more, "--tag", image]


def minio_command(image: str) -> list[str]:
    """Builds MinIO's image, with the base from where `make image` takes its own: BASE_MIRROR and docker/bases.lock."""
    values = base_values(MINIO_DOCKERFILE, os.environ.get("BASE_MIRROR", ""))
    if "GOPROXY" in os.environ:
        values["GOPROXY"] = os.environ["GOPROXY"]
    options = [part for name, value in values.items() for part in ("--build-arg", f"{name}={value}")]
    return [engine(), "build", "--network", "host", *options, "--tag", image, str(MINIO_DOCKERFILE.parent)]
