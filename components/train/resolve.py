"""What the settings leave open, chosen from the data and the machine by pure functions."""

from typing import Literal

from components.common.config import StepConfig
from components.common.errors import InputError
from components.common.refs import ShardsRef
from components.data.augment import SMALL_SIDE, AugmentConfig
from components.train.collectives.base import Engine
from components.train.config import EarlyStoppingConfig, TrainConfig

TINY_PIXELS = 4_000_000
"""Training images times pixels each: below this a second process costs more than it brings."""
LARGE_SET = 20_000
MAX_THREADS = 8


class Machine(StepConfig):
    """What training may use; `components.train.machine` asks the real one."""

    cores: int
    gpus: int
    horovod: bool
    dali: bool
    pods: int = 1
    """So many machines like this one train together."""
    min_pods: int = 1
    """So many go on without the others; `pods` where all are needed."""


class Placement(StepConfig):
    """Where and by what it is done, as far as numbers depend on it."""

    world_size: int
    min_world_size: int
    """Smaller than `world_size` where training is elastic: it goes on with so many."""
    engine: Engine
    device: Literal["cpu", "cuda"]
    backend: Literal["dali", "dali-gpu", "torchvision"]
    threads: int


class Recipe(StepConfig):
    """How the network learns, with nothing left open."""

    model: str
    epochs: int
    batch_size: int
    steps_per_epoch: int
    optimizer: Literal["sgd", "adamw"]
    learning_rate: float
    momentum: float
    weight_decay: float
    warmup_steps: int
    label_smoothing: float
    class_weighting: Literal["none", "balanced"]
    ema_decay: float | None
    keep: Literal["last", "best"]
    early_stopping: EarlyStoppingConfig
    gradient_clip: float | None
    seed: int
    amp: bool
    augment: AugmentConfig

    @property
    def total_steps(self) -> int:
        return self.epochs * self.steps_per_epoch


class ResolvedTrainConfig(StepConfig):
    """The whole: recipe and placement."""

    recipe: Recipe
    placement: Placement


def resolve(config: TrainConfig, shards: ShardsRef, machine: Machine) -> ResolvedTrainConfig:
    """Raises `InputError` for combinations that only the data or the machine make impossible."""
    placement = choose_placement(config, shards, machine)
    recipe = choose_recipe(config, shards, on_gpu=placement.device == "cuda")
    if recipe.batch_size < 2 * placement.world_size:
        raise InputError(
            "there are more workers than a batch can feed",
            where="train.workers",
            expected=f"at least two images a worker in each batch of {recipe.batch_size}",
            found=f"{placement.world_size} workers, {shards.splits.get('train', 0)} training images",
            todo=f"set train.workers to {max(1, recipe.batch_size // 2)} or less",
        )
    return ResolvedTrainConfig(recipe=recipe, placement=placement)


def choose_placement(config: TrainConfig, shards: ShardsRef, machine: Machine) -> Placement:
    """Needs only settings, sizes and the machine."""
    device: Literal["cpu", "cuda"] = "cuda" if machine.gpus and config.device == "auto" else "cpu"
    if config.device != "auto":
        device = config.device
    if device == "cuda" and not machine.gpus:
        raise InputError(
            "there is no GPU that torch can use",
            where="train.device",
            found="device: cuda",
            todo="set train.device: cpu, or run where a GPU is (conveyor doctor shows what is seen)",
        )
    if config.amp and device == "cpu":
        raise InputError(
            "mixed precision works on GPUs only, and there is none here",
            where="train.amp",
            todo="set train.amp: false",
        )
    pixels = shards.splits.get("train", 0) * shards.image_size**2
    workers = config.workers
    if machine.pods > 1:
        workers = _workers_of_pods(config, machine, device)
    elif workers is None:
        if config.engine == "inline":
            workers = 1
        elif device == "cuda":
            workers = machine.gpus
        else:
            workers = 2 if machine.cores >= 2 and pixels > TINY_PIXELS else 1
    if device == "cuda" and workers > machine.gpus * machine.pods:
        raise InputError(
            "there are more workers than GPUs",
            where="train.workers",
            expected=f"at most {machine.gpus * machine.pods}",
            found=str(workers),
        )
    return Placement(
        world_size=workers,
        min_world_size=workers // machine.pods * machine.min_pods,
        engine=_engine(config, workers, machine),
        device=device,
        backend=_backend(config, device, machine),
        threads=config.threads or _threads(config, shards, machine, workers, device),
    )


def _workers_of_pods(config: TrainConfig, machine: Machine, device: str) -> int:
    """As many in each pod; one, or one for each of its GPUs, where the settings leave it open."""
    if config.engine == "inline":
        raise InputError(
            "engine: inline trains in one process, and there are several pods",
            where="train.engine",
            found=f"inline, {machine.pods} pods",
            todo="unset train.engine, or train in one pod",
        )
    workers = config.workers or machine.pods * (machine.gpus if device == "cuda" else 1)
    if workers % machine.pods:
        raise InputError(
            "the workers cannot be dealt out evenly among the pods",
            where="train.workers",
            expected=f"a multiple of {machine.pods}, the number of pods",
            found=str(workers),
            todo="unset train.workers for one worker (or one for each GPU) in each pod",
        )
    return workers


def _threads(config: TrainConfig, shards: ShardsRef, machine: Machine, workers: int, device: str) -> int:
    num_images = shards.splits.get("train", 0)
    # A step of a lenet takes a few milliseconds: threads would mostly wait for each other, on a busy machine for long.
    if (
        config.model or _model(num_images, shards.image_size, device == "cuda")
    ) == "lenet" and device == "cpu":
        return 1
    return min(MAX_THREADS, max(1, machine.cores * machine.pods // workers))


def _engine(config: TrainConfig, workers: int, machine: Machine) -> Engine:
    if config.engine == "horovod" and not machine.horovod:
        raise InputError(
            "Horovod is not installed",
            where="train.engine",
            todo="make setup builds it where there is a C++ compiler; or set train.engine: ddp",
        )
    if config.engine != "auto":
        return config.engine
    if workers == 1:
        return "inline"
    return "horovod" if machine.horovod else "ddp"


def _backend(
    config: TrainConfig, device: str, machine: Machine
) -> Literal["dali", "dali-gpu", "torchvision"]:
    if config.backend == "auto":
        return "dali" if machine.dali else "torchvision"
    if config.backend.startswith("dali") and not machine.dali:
        raise InputError(
            "DALI is not installed",
            where="train.backend",
            todo="install it, or set train.backend: torchvision",
        )
    if config.backend == "dali-gpu" and device != "cuda":
        raise InputError(
            "DALI decodes on a GPU only where the network runs on one",
            where="train.backend",
            todo="set train.backend: dali",
        )
    return config.backend


def choose_recipe(config: TrainConfig, shards: ShardsRef, *, on_gpu: bool) -> Recipe:
    """Needs only settings and the shards' reference, so that it is the same on every machine of a kind."""
    num_images = shards.splits.get("train", 0)
    if num_images < 2:
        raise InputError(
            "there is nothing to train on",
            expected="at least two training images",
            found=str(num_images),
            todo="add images, or give the training split a larger share (ingest.split)",
        )
    batch_size = min(config.batch_size or _batch_size(num_images, on_gpu), num_images)
    steps_per_epoch = num_images // batch_size
    epochs = config.epochs or _epochs(num_images, shards.image_size, on_gpu)
    base_rate = {"sgd": 0.1, "adamw": 0.002}[config.optimizer]
    warmup = min(5.0, epochs / 20) if config.warmup_epochs is None else config.warmup_epochs
    patience = config.early_stopping.patience
    return Recipe(
        model=config.model or _model(num_images, shards.image_size, on_gpu),
        epochs=epochs,
        batch_size=batch_size,
        steps_per_epoch=steps_per_epoch,
        optimizer=config.optimizer,
        learning_rate=config.learning_rate or base_rate * batch_size / 64,
        momentum=config.momentum,
        weight_decay=_given(config.weight_decay, {"sgd": 5e-4, "adamw": 0.05}[config.optimizer]),
        warmup_steps=round(warmup * steps_per_epoch),
        label_smoothing=config.label_smoothing,
        class_weighting=config.class_weighting or _class_weighting(shards.class_counts),
        ema_decay=config.ema_decay,
        keep=config.keep or ("last" if patience is None else "best"),
        early_stopping=config.early_stopping,
        gradient_clip=config.gradient_clip,
        seed=config.seed,
        amp=config.amp,
        augment=config.augment,
    )


def _given(value: float | None, default: float) -> float:
    return default if value is None else value


def _model(num_images: int, image_size: int, on_gpu: bool) -> str:
    if image_size > SMALL_SIDE or (on_gpu and num_images >= LARGE_SET):
        return "resnet18"
    return "lenet"


def _batch_size(num_images: int, on_gpu: bool) -> int:
    """The power of two next to a twentieth of the images."""
    largest = 256 if on_gpu else 128
    size = 32
    while size < largest and size * 20 * 2**0.5 < num_images:
        size *= 2
    return size


def _epochs(num_images: int, image_size: int, on_gpu: bool) -> int:
    """Some 40,000 images seen in all, between 10 and 60 passes (30 where each pass is long)."""
    most = 60 if on_gpu or image_size <= SMALL_SIDE else 30
    return max(10, min(most, round(40_000 / num_images)))


def _class_weighting(counts: tuple[int, ...]) -> Literal["none", "balanced"]:
    return "balanced" if counts and max(counts) > 5 * max(1, min(counts)) else "none"
