"""What this machine and its packages offer for training, asked without importing torch."""

import math
import os
import re
from functools import cache
from importlib import metadata, util
from pathlib import Path

DALI_PACKAGES = ("nvidia-dali-cuda130", "nvidia-dali-cuda120", "nvidia-dali-cuda110")
CGROUP_CPU = Path("/sys/fs/cgroup/cpu.max")


def num_cores() -> int:
    """Cores that this process may use: the affinity mask, and a container's CPU limit rounded up."""
    cores = len(os.sched_getaffinity(0))
    try:
        quota, period = CGROUP_CPU.read_text().split()
        if quota != "max":
            cores = min(cores, math.ceil(int(quota) / int(period)))
    except (OSError, ValueError):
        pass
    return max(1, cores)


def num_gpus() -> int:
    """CUDA devices that torch will see, 0 with a CPU build of torch or `CUDA_VISIBLE_DEVICES` empty."""
    if "+cpu" in (package_version("torch") or "+cpu"):
        return 0
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([name for name in visible.split(",") if name.strip() not in ("", "-1")])
    return sum(1 for path in Path("/dev").glob("nvidia*") if re.fullmatch(r"nvidia\d+", path.name))


@cache
def package_version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def dali_version() -> str | None:
    return next((version for name in DALI_PACKAGES if (version := package_version(name))), None)


def has_horovod() -> bool:
    """Horovod is here with its PyTorch part. Whether it was built for this torch shows when a worker loads it."""
    spec = util.find_spec("horovod")
    if spec is None or not spec.submodule_search_locations:
        return False
    return any(
        Path(root, "torch").glob("mpi_lib_v2*.so") for root in map(Path, spec.submodule_search_locations)
    ) or any(any(Path(root, "torch").glob("*.so")) for root in spec.submodule_search_locations)
