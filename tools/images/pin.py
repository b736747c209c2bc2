#!/usr/bin/env python3
"""Write docker/bases.lock: the digest that each base image's tag has in the registry now.

The engine asks the registry, so its mirrors and its credentials are used. All or nothing: where one base cannot be
resolved, the lock stays as it is.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from images.bases import DIGEST, DOCKERFILE, LOCK, MINIO_DOCKERFILE, default_bases, lock_text, mirrored


class PinError(Exception):
    """A base could not be resolved; the text says why and what to do."""


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--mirror", default=os.environ.get("BASE_MIRROR", ""), help="registry (and path) to ask"
    )
    parser.add_argument(
        "--lock", type=Path, default=LOCK, help="the file to write (default: docker/bases.lock)"
    )
    arguments = parser.parse_args(argv)
    engine = os.environ.get("CONTAINER_ENGINE", "docker")
    images = sorted({*default_bases(DOCKERFILE).values(), *default_bases(MINIO_DOCKERFILE).values()})
    try:
        digests = {image: resolve(engine, mirrored(image, arguments.mirror)) for image in images}
    except PinError as error:
        print(f"images-pin: {error}\n  {arguments.lock.name} is unchanged", file=sys.stderr)
        return 1
    part = arguments.lock.with_name(f".{arguments.lock.name}.part")
    part.write_text(lock_text(digests), encoding="utf-8")
    part.replace(arguments.lock)
    for image, digest in digests.items():
        print(f"{image} {digest}")
    return 0


def resolve(engine: str, image: str) -> str:
    """Pull a tag and read which digest the registry gave for it. Raises `PinError`."""
    if shutil.which(engine) is None:
        raise PinError(f"there is no {engine} on the PATH; install Docker Engine, or set CONTAINER_ENGINE")
    pulled = subprocess.run([engine, "pull", "--quiet", image], capture_output=True, text=True, check=False)
    if pulled.returncode:
        said = (pulled.stderr.strip() or pulled.stdout.strip()).splitlines()
        raise PinError(
            f"{image} cannot be had from its registry: {said[-1] if said else 'no answer'}\n"
            "  check the network and the name; to ask a mirror: make images-pin BASE_MIRROR=registry.example/path"
        )
    shown = subprocess.run(
        [engine, "image", "inspect", "--format", "{{json .RepoDigests}}", image],
        capture_output=True,
        text=True,
        check=False,
    )
    if digest := digest_from(image, json.loads(shown.stdout or "null") or []):
        return digest
    raise PinError(f"{image}: the registry named no digest; is this a local image that was never pushed?")


def digest_from(image: str, entries: list[str]) -> str | None:
    """The digest that the registry asked gave, out of the engine's list `REPOSITORY@DIGEST`.

    An image that was pushed elsewhere as well has an entry for each place, and other digests there.
    """
    repository = image.rpartition(":")[0]
    names = {repository}
    if "/" not in repository:  # Docker Hub's own; docker and podman spell it differently
        names |= {f"{prefix}/{repository}" for prefix in ("library", "docker.io", "docker.io/library")}
    for entry in entries:
        name, _, digest = entry.partition("@")
        if name in names and DIGEST.match(digest):
            return digest
    return None


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
