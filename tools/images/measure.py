#!/usr/bin/env python3
"""Print, as JSON, how large an image's Python packages are, and which of them torch, DALI and kfp do not bring.

Run inside the image: `docker run --rm -i --entrypoint python IMAGE - < tools/images/measure.py`. `--compressed` adds
what a registry holds of those: the bytes of a layer of them, a gzipped tar as engines push it (some ten seconds).
"""

import importlib.metadata
import json
import re
import sys
import tarfile
import zlib
from collections.abc import Iterable
from importlib.metadata import Distribution
from pathlib import Path
from typing import IO, cast

from packaging.requirements import Requirement

GIVEN = ("torch", "torchvision", "nvidia-dali-cuda130", "kfp", "kfp-kubernetes")
OWN = ("conveyor", "horovod")


def main(argv: list[str]) -> int:
    installed = {normal(each.metadata["Name"]): each for each in importlib.metadata.distributions()}
    given = closure(installed, GIVEN)
    added = {name: files(installed[name]) for name in sorted(installed) if name not in given}
    result = {
        "packages": {name: sum(path.stat().st_size for path in paths) for name, paths in added.items()},
        "own": sum(path.stat().st_size for name in OWN for path in added[name]),
        "added": sum(path.stat().st_size for paths in added.values() for path in paths),
        "given": sum(path.stat().st_size for name in given for path in files(installed[name])),
    }
    if "--compressed" in argv:
        result |= {
            "packages_compressed": {name: layer_bytes(paths) for name, paths in added.items()},
            "own_compressed": layer_bytes(path for name in OWN for path in added[name]),
            "added_compressed": layer_bytes(path for paths in added.values() for path in paths),
        }
    print(json.dumps(result))
    return 0


def closure(installed: dict[str, Distribution], roots: Iterable[str]) -> set[str]:
    """The roots and all that they need, as far as it is installed."""
    seen: set[tuple[str, tuple[str, ...]]] = set()
    todo: list[tuple[str, tuple[str, ...]]] = [(normal(name), ()) for name in roots]
    while todo:
        name, extras = todo.pop()
        if name not in installed or (name, extras) in seen:
            continue
        seen.add((name, extras))
        for line in installed[name].requires or []:
            need = Requirement(line)
            if need.marker is None or any(need.marker.evaluate({"extra": extra}) for extra in ("", *extras)):
                todo.append((normal(need.name), tuple(sorted(need.extras))))
    return {name for name, _ in seen}


def files(distribution: Distribution) -> list[Path]:
    """What is there of a distribution."""
    paths = (Path(str(file.locate())) for file in distribution.files or [])
    return [path for path in paths if path.is_file()]


class Counter:
    """A file that keeps nothing of what is written to it but the size, deflated."""

    def __init__(self) -> None:
        self._deflate, self._size = zlib.compressobj(6), 0

    def write(self, data: bytes) -> int:
        self._size += len(self._deflate.compress(data))
        return len(data)

    def close(self) -> int:
        """Bytes in all."""
        return self._size + len(self._deflate.flush())


def layer_bytes(paths: Iterable[Path]) -> int:
    """Compressed size of a layer with these files."""
    counter = Counter()
    with tarfile.open(fileobj=cast(IO[bytes], counter), mode="w|") as tar:
        for path in paths:
            tar.add(path)
    return counter.close()


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
