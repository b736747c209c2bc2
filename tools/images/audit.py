#!/usr/bin/env python3
"""Look every version of constraints.txt up in PyPI's vulnerability database, with pip-audit.

ACCEPTED lists what is known and does not concern us, each with its reason; nobody is told of those again.

pip-audit calls a package that the database does not answer for "skipped", and still ends well; here that is an error,
for nothing was looked up. Exit status: 0 nothing is known, 1 something is, 2 it could not be found out.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PIP_AUDIT = "pip-audit==2.10.1"
ACCEPTED = Path(__file__).resolve().with_name("accepted.txt")


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--lock", type=Path, default=ROOT / "constraints.txt")
    parser.add_argument("--service", choices=("pypi", "osv"), default="pypi", help="which database to ask")
    arguments = parser.parse_args(argv)
    try:
        ignored = accepted(ACCEPTED.read_text(encoding="utf-8"))
        answer = ask(pip_audit(), arguments.lock, arguments.service, ignored)
    except (OSError, ValueError) as error:
        print(f"audit: {error}", file=sys.stderr)
        return 2
    return verdict(answer)


def pip_audit() -> Path:
    """The program, in an environment of its own: what judges the lock is no part of it. Raises `OSError`."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "conveyor"
    home = cache / PIP_AUDIT.replace("==", "-")
    program = home / "bin" / "pip-audit"
    if not program.exists():
        venv.create(home, with_pip=True, clear=True)
        install = [str(home / "bin" / "pip"), "install", "--quiet", PIP_AUDIT]
        if subprocess.run(install, check=False).returncode:
            raise OSError(f"{PIP_AUDIT} could not be installed; is the package index reachable?")
    return program


def accepted(text: str) -> list[str]:
    """The IDs of lines `ID reason`. Raises `ValueError` for one without a reason."""
    found = []
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.split(maxsplit=1)
        if not words or words[0].startswith("#"):
            continue
        if len(words) < 2:
            raise ValueError(
                f"{ACCEPTED.name}, line {number}: expected an ID and the reason why it does not concern us, "
                f"found {line!r}; add the reason"
            )
        found.append(words[0])
    return found


def ask(program: Path, lock: Path, service: str, ignored: list[str]) -> list[dict[str, Any]]:
    """One entry a package: its version, its vulnerabilities, or why it was skipped. Raises `OSError`."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "answer.json"
        options = [
            "--disable-pip",
            "--no-deps",
            "--progress-spinner",
            "off",
            "--vulnerability-service",
            service,
            *(part for each in ignored for part in ("--ignore-vuln", each)),
        ]
        command = [
            str(program),
            *options,
            "--requirement",
            str(lock),
            "--format",
            "json",
            "--output",
            str(out),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if not out.exists():
            said = done.stderr.strip().splitlines() or ["pip-audit said nothing"]
            raise OSError(f"the vulnerability service {service} gave no answer: {said[-1]}")
        found: list[dict[str, Any]] = json.loads(out.read_text(encoding="utf-8"))["dependencies"]
    return found


def verdict(answer: list[dict[str, Any]]) -> int:
    """Say what is known; returns the exit status."""
    skipped = [entry["name"] for entry in answer if "skip_reason" in entry]
    affected = [entry for entry in answer if entry.get("vulns")]
    for entry in affected:
        for known in entry["vulns"]:
            cure = ", ".join(known["fix_versions"]) or "none yet"
            print(f"{entry['name']} {entry['version']}: {known['id']}, fixed in: {cure}")
    if affected:
        return 1
    if skipped:
        names = f": {', '.join(skipped)}" if len(skipped) < len(answer) else ""
        print(
            f"audit: nothing could be found out about {len(skipped)} of {len(answer)} packages{names}\n"
            "  the vulnerability service is not reachable from here, or does not know them; "
            "run it where it is (or try: make audit AUDIT_ARGS='--service osv')",
            file=sys.stderr,
        )
        return 2
    print(f"audit: nothing is known against {len(answer)} packages")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
