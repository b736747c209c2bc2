"""What this machine and its packages offer, asked without importing anything heavy."""

import math
import os
import re
from functools import cache
from importlib import metadata
from pathlib import Path

CGROUP_CPU = Path("/sys/fs/cgroup/cpu.max")
CORES = "CONVEYOR_CORES"
GPUS = "CONVEYOR_GPUS"
"""A pod is told what to count on, so that results do not depend on its node, and so that whoever launches it can
compute the same record key without having its GPUs."""


def num_cores() -> int:
    """Cores that this process may use: the affinity mask, and a container's CPU limit rounded up; or as told."""
    told = os.environ.get(CORES, "")
    if told.isdecimal() and int(told):
        return int(told)
    cores = len(os.sched_getaffinity(0))
    try:
        quota, period = CGROUP_CPU.read_text().split()
        if quota != "max":
            cores = min(cores, math.ceil(int(quota) / int(period)))
    except (OSError, ValueError):
        pass
    return max(1, cores)


def num_gpus() -> int:
    """CUDA devices that torch will see; 0 with a CPU build of torch or with `CUDA_VISIBLE_DEVICES` empty; or as told."""
    told = os.environ.get(GPUS, "")
    if told.isdecimal():
        return int(told)
    if "+cpu" in (package_version("torch") or "+cpu"):
        return 0
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([name for name in visible.split(",") if name.strip() not in ("", "-1")])
    return sum(1 for path in Path("/dev").glob("nvidia*") if re.fullmatch(r"nvidia\d+", path.name))


@cache
def package_version(*names: str) -> str | None:
    """Version of the first of `names` that is installed."""
    for name in names:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return None
