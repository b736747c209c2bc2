#!/usr/bin/env python3
"""Configure the ssh server of an image: our files, no host keys, and the image's own environment for its sessions.

`sshd.py SOURCE TARGET`. sshd gives its sessions nothing of its own environment; what the Dockerfile's ENV says is
written into its configuration, so that the two cannot differ.
"""

import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

KEPT = (
    "PATH",
    "HOME",
    "PYTHONUNBUFFERED",
    "PYTHONDONTWRITEBYTECODE",
    "CONVEYOR_LOG_FORMAT",
    "CONVEYOR_ACCELERATOR",
    "CUDA_VISIBLE_DEVICES",
    "NVIDIA_DRIVER_CAPABILITIES",
    "LD_LIBRARY_PATH",
)
"""Of the image's variables, where they are set; the build's own are not for sessions."""


def main(source: str, target: str) -> int:
    ssh = Path(target)
    for key in ssh.glob("ssh_host_*"):
        key.unlink()
    (ssh / "conveyor").mkdir(exist_ok=True)
    shutil.copyfile(Path(source, "ssh_config"), ssh / "ssh_config.d" / "conveyor.conf")
    text = Path(source, "sshd_config").read_text(encoding="utf-8")
    (ssh / "sshd_config").write_text(text + set_env(os.environ), encoding="utf-8")
    return 0


def set_env(env: Mapping[str, str]) -> str:
    """One line, since sshd takes the first and ignores the rest."""
    return "SetEnv " + " ".join(f"{name}={env[name]}" for name in KEPT if name in env) + "\n"


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
