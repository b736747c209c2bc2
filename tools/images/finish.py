#!/usr/bin/env python3
"""The last root step of an image: no pip, nowhere, and no build files left, and the standard library compiled.

Some bases keep pip as wheels as well, for `ensurepip` or Debian's `python3 -m venv`: those go too. On a read-only root nothing is compiled later, and some bases come without compiled modules: each start would pay.
"""

import compileall
import re
import shutil
import site
import sys
import sysconfig
from pathlib import Path

INSTALLERS = ("pip", "setuptools", "wheel", "pkg_resources", "_distutils_hack", "distutils-precedence.pth")
PLACES = [*site.getsitepackages(), "/usr/lib/python3/dist-packages"]
WHEELS = [Path(sysconfig.get_path("stdlib"), "ensurepip", "_bundled"), Path("/usr/share/python-wheels")]
PROGRAMS = [Path("/usr/bin"), Path("/usr/local/bin")]
NOT_RUN = re.compile(
    r"/(test|tests|idlelib|lib2to3|tkinter|turtledemo|ensurepip|site-packages|dist-packages)/"
)


def main(argv: list[str]) -> int:
    for place in map(Path, PLACES):
        for name in INSTALLERS:
            for found in [
                *place.glob(name),
                *place.glob(f"{name}-*.dist-info"),
                *place.glob(f"{name}-*.egg-info"),
            ]:
                remove(found)
    for folder in PROGRAMS:
        for program in [*folder.glob("pip"), *folder.glob("pip3*"), *folder.glob("wheel*")]:
            program.unlink()
    for path in [*WHEELS, *map(Path, argv)]:
        remove(path)
    compileall.compile_dir(sysconfig.get_path("stdlib"), quiet=2, rx=NOT_RUN)
    return 0


def remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
