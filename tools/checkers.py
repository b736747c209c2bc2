#!/usr/bin/env python3
"""Build what checks the chart and the manifests from Go modules: Helm 3 (beside the cluster's Helm 4) and kube-score.

Argument: the folder. Tests find them on the PATH, or in `extra` beside the folder of $CONVEYOR_TEST_BIN. What is there
already is kept; needs Go; some 3 minutes on 2 cores.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

TOOLS = {
    "helm3": ("helm.sh/helm/v3", "v3.22.0", "helm.sh/helm/v3/cmd/helm"),
    "kube-score": ("github.com/zegl/kube-score", "v1.20.0", "github.com/zegl/kube-score/cmd/kube-score"),
}


def build(folder: Path, name: str) -> None:
    """One program, through a throw-away module of ours: `go install` refuses modules that replace others."""
    module, version, package = TOOLS[name]
    flags = f"-s -w -X helm.sh/helm/v3/internal/version.version={version}"
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        (place / "go.mod").write_text("module build\ngo 1.25\n")
        (place / "tools.go").write_text(f'//go:build tools\n\npackage build\n\nimport _ "{package}"\n')
        part = folder / f"{name}.part"
        for command in (
            ["go", "mod", "edit", f"-require={module}@{version}"],
            ["go", "mod", "tidy"],
            [
                "go",
                "build",
                "-mod=mod",
                "-trimpath",
                "-buildvcs=false",
                "-ldflags",
                flags,
                "-o",
                str(part),
                package,
            ],
        ):
            subprocess.run(command, cwd=place, check=True, env={**os.environ, "CGO_ENABLED": "0"})
        part.replace(folder / name)


def main(folder: Path) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    for name in TOOLS:
        if not (folder / name).is_file():
            print(f"building {name}", flush=True)
            build(folder, name)
    print(folder)
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    sys.exit(main(Path(sys.argv[1])))
