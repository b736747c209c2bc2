#!/usr/bin/env python3
"""Write what an image contains (Debian's and Python's packages) as SPDX JSON, with syft."""

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path

HINT = "go install github.com/anchore/syft/cmd/syft@v1.57.0"


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("image", help="such as conveyor:cpu, as the engine knows it")
    parser.add_argument("--out", type=Path, default=Path("build"), help="folder (default: build)")
    arguments = parser.parse_args(argv)
    syft = shutil.which("syft")
    if syft is None:
        print(f"sbom: there is no syft on the PATH; install it: {HINT}", file=sys.stderr)
        return 1
    arguments.out.mkdir(parents=True, exist_ok=True)
    path = arguments.out / f"{arguments.image.replace('/', '-').replace(':', '-')}.spdx.json"
    part = path.with_name(f".{path.name}.part")
    # The files themselves would be 300 MB of JSON; packages are what one asks an SBOM for.
    command = [syft, "scan", f"docker:{arguments.image}", "--quiet", "--output", f"spdx-json={part}"]
    status = subprocess.run(command, check=False).returncode
    if status:
        part.unlink(missing_ok=True)
        print(f"sbom: syft could not read {arguments.image}; is it built (make image)?", file=sys.stderr)
        return 1
    part.replace(path)
    packages = json.loads(path.read_text(encoding="utf-8"))["packages"]
    print(f"{path}: {len(packages)} packages")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
