"""What the settings leave open, chosen by pure functions of the settings and the data."""

import json
import math
import os
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from components.common.canonical import Json
from components.common.config import StepConfig
from components.common.errors import InputError
from components.common.machine import num_gpus
from components.common.refs import ModelRef, ShardsRef
from components.compress.choose import allowed_drop
from components.compress.config import CompressConfig

if TYPE_CHECKING:
    from components.compress.finetune import Recipe

AUTO_RATIOS = (0.5, 0.75, 0.875)
GENTLE_RATIOS = (0.25, 0.375)
MANY_VALIDATION = 1_000
"""With fewer validation images a loss of half a point cannot be seen (the standard error of a difference on 1 % of 1,000
images is 0.3 points): heavy pruning would be taken on trust. On the digits (180 images) half the channels cost nothing
that validation shows, and 1.1 points on the test split."""
MAX_THREADS = 8
BATCH_SIZES = (32, 64, 128)
SMALL_SET = 10_000
SMALL_WORK = 1_000_000_000
"""Parameters times pixels: below it a step is a few milliseconds, and threads cost more than they bring."""


class Plan(StepConfig):
    """The settings with nothing left open, as far as data decide it."""

    ratios: tuple[float, ...]
    stop_early: bool
    """Try the next ratio only while the last one stayed within the drop."""
    drop: float
    batch_size: int
    epochs: int
    num_steps: int
    latency_seconds: float

    def recipe(self, config: CompressConfig) -> "Recipe":
        prune = config.prune
        from components.compress.finetune import Recipe

        return Recipe(
            num_steps=self.num_steps,
            learning_rate=prune.learning_rate,
            weight_decay=prune.weight_decay,
            distillation=prune.distillation,
            temperature=prune.temperature,
        )


def resolve(config: CompressConfig, model: ModelRef, shards: ShardsRef) -> Plan:
    """Raises `InputError` where the data have no validation split to choose by."""
    num_train, num_val = shards.splits.get("train", 0), shards.splits.get("val", 0)
    if not num_val or not num_train:
        raise InputError(
            "compression needs a training and a validation split",
            where=f"shards {shards.tree}",
            expected="at least one image in each",
            found=f"{num_train} for training, {num_val} for validation",
            todo="add images, or give the validation split a larger share (ingest.split)",
        )
    batch_size = config.prune.batch_size or next(
        (size for size in BATCH_SIZES if size * 20 * 2**0.5 >= num_train), BATCH_SIZES[-1]
    )
    batch_size = min(batch_size, num_train)
    epochs = config.prune.epochs
    if epochs is None:
        # Less than the network took to learn from nothing: it only has to heal. Small sets have few steps an epoch.
        epochs = max(2, math.ceil(model.epochs / (2 if num_train <= SMALL_SET else 4)))
    return Plan(
        ratios=_auto_ratios(num_val) if config.prune.ratios is None else config.prune.ratios,
        stop_early=config.prune.ratios is None,
        drop=allowed_drop(config.max_accuracy_drop, num_val),
        batch_size=batch_size,
        epochs=epochs,
        num_steps=epochs * (num_train // batch_size),
        latency_seconds=config.latency.seconds or _latency_seconds(num_train, work(model)),
    )


def work(model: ModelRef) -> int:
    """Parameters times pixels: a rough measure of how long one image takes."""
    return model.num_parameters * model.image_size**2


def _latency_seconds(num_train: int, size: int) -> float:
    """2 to 12: measuring must not take longer than what it measures for, and slow networks need their calls."""
    return min(12.0, max(2.0, num_train / 150, size / 1e10))


def _auto_ratios(num_val: int) -> tuple[float, ...]:
    return AUTO_RATIOS if num_val >= MANY_VALIDATION else GENTLE_RATIOS


class Place(StepConfig):
    """Where fine-tuning runs and with what: numbers depend on it, so it is part of the key."""

    device: Literal["cpu", "cuda"]
    threads: int
    backend: Literal["dali", "torchvision"]


def place(config: CompressConfig, model: ModelRef) -> Place:
    """Asks this machine. Raises `InputError` for a GPU that is not there."""
    gpu = config.device != "cpu" and num_gpus() > 0  # asked without torch, which takes seconds to import
    if config.device == "cuda" and not gpu:
        raise InputError(
            "there is no GPU that torch can use",
            where="compress.device",
            found="device: cuda",
            todo="set compress.device: cpu, or run where a GPU is (conveyor doctor shows what is seen)",
        )
    small = work(model) < SMALL_WORK
    return Place(
        device="cuda" if gpu else "cpu",
        threads=config.threads or (1 if small else min(MAX_THREADS, num_cpus())),
        backend="dali" if _version("nvidia-dali-cuda130", "nvidia-dali-cuda120") else "torchvision",
    )


def builds() -> dict[str, Json]:
    """Versions of the packages whose numbers end up in the candidates."""
    return {
        "torch": _version("torch"),
        "onnxruntime": _version("onnxruntime", "onnxruntime-gpu"),
        "torch_pruning": _version("torch-pruning"),
        "dali": _version("nvidia-dali-cuda130", "nvidia-dali-cuda120"),
    }


def read_measurements(path: Path | None) -> dict[str, float] | None:
    """Recorded latencies: candidate name → milliseconds (batch 1). Raises `InputError` for anything else."""
    if path is None:
        return None
    try:
        value: Any = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise InputError(
            "the recorded latencies cannot be read", where=f"compress.measurements: {path}", found=str(error)
        ) from error
    if not isinstance(value, dict) or not all(
        isinstance(ms, int | float) and not isinstance(ms, bool) and ms > 0 for ms in value.values()
    ):
        raise InputError(
            "the recorded latencies are not a table of milliseconds",
            where=f"compress.measurements: {path}",
            expected='{"fp32": 1.2, "int8": 0.4}',
        )
    return {name: float(ms) for name, ms in value.items()}


def num_cpus() -> int:
    """CPUs that this process may use: the affinity mask, and a container's limit rounded up."""
    cpus = len(os.sched_getaffinity(0))
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        if quota != "max":
            cpus = min(cpus, math.ceil(int(quota) / int(period)))
    except (OSError, ValueError):
        pass
    return max(1, cpus)


def _version(*names: str) -> str | None:
    for name in names:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return None
