#!/usr/bin/env python3
"""Take out of an environment what no step can load, in the same layer that installed it.

`slim.py VENV TABLE`: the table's lines are globs in site-packages, `cpu GLOB` holds only for a CPU image, and
`GLOB but NAME…` spares some names. `strip GLOB` keeps the files and takes their symbol tables, which only a debugger
reads, with binutils' `strip`. Modules for other versions of Python go in any case.
"""

import argparse
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("venv", type=Path)
    parser.add_argument("table", type=Path)
    parser.add_argument("--accelerator", choices=("cpu", "cuda"), default="cpu")
    arguments = parser.parse_args(argv)
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    site = arguments.venv / "lib" / version / "site-packages"
    lines = arguments.table.read_text(encoding="utf-8").splitlines()
    unwanted = {*listed(site, lines, arguments.accelerator), *foreign(site)}
    gone = sum(map(remove, sorted(unwanted)))
    gone += sum(map(strip, sorted(stripped(site, lines))))
    print(f"slim: {gone / 1e6:.0f} MB that no step loads")
    return 0


def listed(site: Path, lines: list[str], accelerator: str) -> Iterator[Path]:
    """What the table names and is there."""
    for line in lines:
        words = line.partition("#")[0].split()
        if words and words[0] == "cpu":
            words = words[1:] if accelerator == "cpu" else []
        if not words or words[0] == "strip":
            continue
        pattern, *rest = words
        yield from (path for path in site.glob(pattern) if path.name not in rest[1:])


def stripped(site: Path, lines: list[str]) -> set[Path]:
    """Which files the table wants without symbol tables."""
    words = [line.partition("#")[0].split() for line in lines]
    globs = [each[1] for each in words if each[:1] == ["strip"]]
    found = (path for pattern in globs for path in site.glob(pattern))
    return {path for path in found if path.is_file() and not path.is_symlink()}


def foreign(site: Path) -> Iterator[Path]:
    """DALI and its codecs bring their modules for every version of Python."""
    ours = sysconfig.get_config_var("SOABI")  # such as cpython-311-x86_64-linux-gnu
    return (path for path in site.rglob("*.cpython-*.so") if path.name.split(".")[-2] != ours)


def strip(path: Path) -> int:
    """Take a library's symbol table out; returns the bytes that it held. What the loader reads is another table."""
    before = path.stat().st_size
    subprocess.run(["strip", "--strip-unneeded", str(path)], check=True)
    return before - path.stat().st_size


def remove(path: Path) -> int:
    """Delete a file or a folder, and what a module was compiled to; returns the bytes that they held."""
    if path.is_dir() and not path.is_symlink():
        size = sum(file.lstat().st_size for file in path.rglob("*") if file.is_file())
        shutil.rmtree(path)
        return size
    size = path.lstat().st_size if path.exists() else 0
    path.unlink(missing_ok=True)
    if path.suffix == ".py":
        size += sum(map(remove, (path.parent / "__pycache__").glob(f"{path.stem}.*.pyc")))
    return size


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
