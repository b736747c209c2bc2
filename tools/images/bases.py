"""Which base images the Dockerfiles name, and the lock that says which digests they are to be."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = ROOT / "docker" / "Dockerfile"
MINIO_DOCKERFILE = ROOT / "docker" / "minio" / "Dockerfile"
LOCK = ROOT / "docker" / "bases.lock"
HEADER = """\
# The digest of each base image of our Dockerfiles, written by `make images-pin`; `make image` and `make kind-up` build on these.
# A base that is not listed is taken by its tag.
"""

BASE_ARGUMENT = re.compile(r"^ARG +(\w*BASE)=(\S+)$", re.MULTILINE)
DIGEST = re.compile(r"^sha256:[0-9a-f]{64}$")


def default_bases(dockerfile: Path) -> dict[str, str]:
    """Name of the build argument and the image that it stands for by default."""
    return dict(BASE_ARGUMENT.findall(dockerfile.read_text(encoding="utf-8")))


def read_lock(path: Path) -> dict[str, str]:
    """Image and digest, from lines `python:3.11-slim-bookworm sha256:…`. Raises `ValueError` for any other line."""
    if not path.exists():
        return {}
    found: dict[str, str] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        text = line.partition("#")[0].split()
        if not text:
            continue
        if len(text) != 2 or not DIGEST.match(text[1]):
            raise ValueError(
                f"{path}, line {number}: expected an image and its sha256 digest, found {line!r}"
            )
        found[text[0]] = text[1]
    return found


def lock_text(digests: dict[str, str]) -> str:
    return HEADER + "".join(f"{image} {digest}\n" for image, digest in sorted(digests.items()))


def mirrored(image: str, mirror: str) -> str:
    """The same image in another registry: `python:3.11` in `mirror.example/hub` is `mirror.example/hub/python:3.11`."""
    return f"{mirror.rstrip('/')}/{image}" if mirror else image


def base_values(dockerfile: Path, mirror: str, lock: Path = LOCK) -> dict[str, str]:
    """The build arguments for a Dockerfile's bases: from a mirror, and with the lock's digests."""
    digests = read_lock(lock)
    return {
        name: mirrored(image, mirror) + (f"@{digests[image]}" if image in digests else "")
        for name, image in default_bases(dockerfile).items()
    }
