"""What this machine offers for training, asked without importing torch."""

from importlib import util
from pathlib import Path

from components.common.machine import num_cores, num_gpus, package_version
from components.train.pods.environment import num_pods
from components.train.resolve import Machine

DALI_PACKAGES = ("nvidia-dali-cuda130", "nvidia-dali-cuda120", "nvidia-dali-cuda110")


def this_machine() -> Machine:
    """What this machine has, or each of the pods that train together; a launcher's own pod answers for them."""
    pods, min_pods = num_pods()
    return Machine(
        cores=num_cores(),
        gpus=num_gpus(),
        horovod=has_horovod(),
        dali=dali_version() is not None,
        pods=pods,
        min_pods=min_pods,
    )


def dali_version() -> str | None:
    return package_version(*DALI_PACKAGES)


def has_horovod() -> bool:
    """Horovod is here with its PyTorch part. Whether it was built for this torch shows when a worker loads it."""
    spec = util.find_spec("horovod")
    folders = (spec.submodule_search_locations or ()) if spec else ()
    return any(True for folder in folders for _ in Path(folder, "torch").glob("*.so"))
