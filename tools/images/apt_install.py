#!/usr/bin/env python3
"""Install Debian packages into an image and leave nothing else behind: no lists, no cache, no recommendations.

APT_MIRROR, such as `https://mirror.example/debian`, stands in for the base image's Debian mirror while this runs;
the sources are put back as they were.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

SOURCES = [Path("/etc/apt/sources.list"), Path("/etc/apt/sources.list.d/debian.sources")]
MAIN_ARCHIVE = re.compile(r"https?://\S+?/debian(?=[\s/]|$)", re.MULTILINE)
LEFT_BEHIND = ["/var/lib/apt/lists", "/var/cache/apt", "/var/log/apt", "/usr/share/doc", "/usr/share/man"]


def main(packages: list[str]) -> int:
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    mirror = env.get("APT_MIRROR", "").rstrip("/")
    before = {path: path.read_text() for path in SOURCES if path.exists()}
    if mirror:
        for path, text in before.items():
            path.write_text(MAIN_ARCHIVE.sub(mirror, text))
    try:
        subprocess.run(["apt-get", "update", "-q"], check=True, env=env)
        command = ["apt-get", "install", "-y", "-q", "--no-install-recommends", *packages]
        subprocess.run(command, check=True, env=env)
    except subprocess.CalledProcessError as error:
        return int(error.returncode) or 1
    finally:
        for path, text in before.items():
            path.write_text(text)
    for folder in LEFT_BEHIND:
        for entry in Path(folder).glob("*"):
            shutil.rmtree(entry, ignore_errors=True) if entry.is_dir() else entry.unlink(missing_ok=True)
    for log in Path("/var/log").glob("*.log"):
        log.unlink()
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
