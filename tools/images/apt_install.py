#!/usr/bin/env python3
"""Install Debian packages into an image and leave nothing else behind: no lists, no cache, no recommendations.

`apt_install.py PACKAGE…`, or `apt_install.py --remove PACKAGE…`, which takes what they brought as well. APT_MIRROR, such
as `https://mirror.example/debian`, and APT_SECURITY_MIRROR, such as `https://mirror.example/debian-security`, stand in
for the base image's while this runs; the sources are put back as they were.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

SOURCES = [Path("/etc/apt/sources.list"), Path("/etc/apt/sources.list.d/debian.sources")]
MAIN_ARCHIVE = re.compile(r"https?://\S+?/debian(?=/?(?:\s|$))", re.MULTILINE)
SECURITY_ARCHIVE = re.compile(
    r"https?://(?:\S+?/debian-security|security\.debian\.org)(?=/?(?:\s|$))", re.MULTILINE
)
LEFT_BEHIND = ["/var/lib/apt/lists", "/var/cache/apt", "/var/log/apt", "/usr/share/man"]
DOCUMENTS = Path("/usr/share/doc")
LICENCE = "copyright"
"""Of each package's documents: the licence asks for it, and an SBOM reads it."""


def main(argv: list[str]) -> int:
    try:
        if argv[:1] == ["--remove"]:
            apt("purge", "-y", "-q", "--auto-remove", *argv[1:])
        else:
            install(argv)
    except subprocess.CalledProcessError as error:
        return int(error.returncode) or 1
    for folder in LEFT_BEHIND:
        for entry in Path(folder).glob("*"):
            shutil.rmtree(entry, ignore_errors=True) if entry.is_dir() else entry.unlink(missing_ok=True)
    remove_documents(DOCUMENTS)
    for log in Path("/var/log").glob("*.log"):
        log.unlink()
    return 0


def install(packages: list[str]) -> None:
    """Raises `CalledProcessError`; the sources are as before in any case."""
    before = {path: path.read_text() for path in SOURCES if path.exists()}
    for path, text in before.items():
        path.write_text(
            mirrored(text, os.environ.get("APT_MIRROR", ""), os.environ.get("APT_SECURITY_MIRROR", ""))
        )
    try:
        # By itself, apt takes lists that cannot be fetched for a warning, and goes on with fewer or older packages.
        apt("update", "-q", "-o", "APT::Update::Error-Mode=any")
        apt("install", "-y", "-q", "--no-install-recommends", *packages)
    finally:
        for path, text in before.items():
            path.write_text(text)


def mirrored(text: str, main_mirror: str, security_mirror: str) -> str:
    """A list of sources that names the mirrors, where they are given, instead of Debian's two archives."""
    for archive, mirror in ((MAIN_ARCHIVE, main_mirror), (SECURITY_ARCHIVE, security_mirror)):
        if mirror:
            text = archive.sub(mirror.rstrip("/"), text)
    return text


def remove_documents(folder: Path) -> None:
    """All but the licences. A package's folder may be a link to another's."""
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_symlink() and path.is_dir():
            continue
        if path.is_dir():
            if not any(path.iterdir()):
                path.rmdir()
        elif path.name != LICENCE:
            path.unlink()


def apt(*arguments: str) -> None:
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run(["apt-get", *arguments], check=True, env=env)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
