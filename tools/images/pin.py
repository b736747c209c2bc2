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

from images.bases import DIGEST, DOCKERFILE, LOCK, default_bases, lock_text, mirrored


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
    images = sorted(set(default_bases(DOCKERFILE).values()))
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
    repository = image.rpartition(":")[0]
    for entry in json.loads(shown.stdout or "null") or []:
        name, _, digest = entry.partition("@")
        if DIGEST.match(digest) and (name == repository or name.endswith(f"/{repository}")):
            return str(digest)
    raise PinError(f"{image}: the registry named no digest; is this a local image that was never pushed?")


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
