"""Programs that are called, and what to say where one is missing or fails."""

import os
import shutil
import subprocess
from collections.abc import Mapping

CURES = {
    "docker": "install Docker Engine or Docker Desktop, and start it",
    "kind": "go install sigs.k8s.io/kind@latest, or your package manager's kind",
    "kubectl": "install kubectl (Kubernetes' own command)",
    "helm": "install Helm 3 or 4",
}
OTHER_CURE = "install it, or name another program in CONTAINER_ENGINE"


class LocalError(Exception):
    """What is wrong, in words for a person."""


def need(*programs: str) -> None:
    """All of these are on the PATH. Raises `LocalError` that names the missing ones with their cures."""
    missing = [name for name in programs if shutil.which(name) is None]
    if missing:
        lines = (f"{name} is not on the PATH: {CURES.get(name, OTHER_CURE)}" for name in missing)
        raise LocalError("\n".join(lines))


def call(*command: str, env: Mapping[str, str] | None = None, stdin: str | None = None) -> None:
    """Run a program; its words go to the terminal. Raises `LocalError` where it fails."""
    print(f"+ {' '.join(command)}", flush=True)
    done = subprocess.run(
        command, env={**os.environ, **(env or {})}, input=stdin, text=stdin is not None, check=False
    )
    if done.returncode:
        raise LocalError(f"{command[0]} failed with status {done.returncode} (above)")


def ask(*command: str, env: Mapping[str, str] | None = None) -> str:
    """Run a program quietly and return what it printed. Raises `LocalError` with its error."""
    done = subprocess.run(
        command, env={**os.environ, **(env or {})}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise LocalError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout.strip()
