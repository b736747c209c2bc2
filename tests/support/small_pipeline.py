"""A whole pipeline that takes seconds: small images, a small network, one epoch, everything in one thread."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

SMALL: dict[str, Any] = {
    "ingest": {"num_workers": 1},
    "preprocess": {"num_workers": 1},
    "train": {
        "model": "lenet",
        "epochs": 2,
        "batch_size": 16,
        "workers": 1,
        "threads": 1,
        "tensorboard": False,
    },
    "evaluate": {"threads": 1, "bootstrap_resamples": 100},
    "compress": {
        "threads": 1,
        "prune": {"ratios": [0.5], "epochs": 1},
        "quantize": {"calibration_images": 16},
        "latency": {"threads": 1, "rounds": 2, "seconds": 0.2},
    },
    # Two epochs on a handful of images teach nothing; what a refusal does is promote's own tests' business.
    # And which candidate is the fastest of models that take 50 µs, and so how large the chosen one is, a busy machine says.
    "promote": {
        "min_accuracy": 0.0,
        "min_class_recall": 0.0,
        "max_latency_ratio": None,
        "max_size_ratio": None,
    },
}

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Ended:
    """A command that has ended."""

    status: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)


def write_config(path: Path, settings: Mapping[str, Any] = SMALL) -> Path:
    path.write_text(yaml.safe_dump(dict(settings)))
    return path


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of this process, with the checkout importable from any folder, and few threads."""
    path = os.pathsep.join(str(p) for p in (ROOT, ROOT / "tests"))
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", **(extra or {})}


def command(arguments: Sequence[str | Path]) -> list[str]:
    return [sys.executable, "-m", "pipelines.cli", *map(str, arguments)]


def conveyor(
    *arguments: str | Path, cwd: Path, env: Mapping[str, str] | None = None, timeout_s: float = 240
) -> Ended:
    """Run `conveyor` in a process of its own and wait for it."""
    done = subprocess.run(
        command(arguments),
        cwd=cwd,
        env=environment(env),
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    return Ended(done.returncode, done.stdout, done.stderr)
