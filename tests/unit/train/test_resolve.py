from typing import Any, Literal

import pytest

from components.common.errors import InputError
from components.common.refs import ShardsRef
from components.train.config import EarlyStoppingConfig, TrainConfig
from components.train.resolve import Machine, Placement, resolve

DIGEST = "sha256:" + "0" * 64
TWO_CORES = Machine(cores=2, gpus=0, horovod=True, dali=True)


def shards(
    num: int = 1400, size: int = 8, channels: Literal[1, 3] = 1, counts: tuple[int, ...] | None = None
) -> ShardsRef:
    counts = counts or (num // 2, num - num // 2)
    return ShardsRef(
        tree=DIGEST,
        snapshot=DIGEST,
        classes=tuple(f"c{label}" for label in range(len(counts))),
        image_size=size,
        stored_size=size,
        channels=channels,
        mean=(0.5,) * channels,
        std=(0.2,) * channels,
        splits={"train": num, "val": 10, "test": 10},
        class_counts=counts,
        class_weights=(1.0,) * len(counts),
    )


def machine(**changes: Any) -> Machine:
    return Machine(**(TWO_CORES.model_dump() | changes))


def test_small_sets_train_small_and_long_large_ones_short() -> None:
    digits = resolve(TrainConfig(), shards(), TWO_CORES)
    assert digits.recipe.model == "lenet"
    assert (digits.recipe.batch_size, digits.recipe.steps_per_epoch) == (64, 21)
    assert digits.recipe.epochs == 29
    assert digits.recipe.keep == "last"
    assert digits.placement == Placement(
        world_size=1, min_world_size=1, engine="inline", device="cpu", backend="dali", threads=1
    )
    large = resolve(TrainConfig(), shards(56_000, 28), TWO_CORES)
    assert (large.recipe.model, large.recipe.epochs, large.recipe.batch_size) == ("lenet", 10, 128)
    assert (large.placement.world_size, large.placement.engine, large.placement.threads) == (2, "horovod", 1)
    photos = resolve(TrainConfig(), shards(400, 224, 3), TWO_CORES)
    assert (photos.recipe.model, photos.recipe.batch_size, photos.recipe.epochs) == ("resnet18", 32, 30)


def test_what_is_set_is_kept() -> None:
    config = TrainConfig(
        model="resnet34", epochs=3, batch_size=10, learning_rate=0.5, workers=2, engine="ddp", threads=3
    )
    found = resolve(config, shards(), TWO_CORES)
    recipe, placement = found.recipe, found.placement
    assert (recipe.model, recipe.epochs, recipe.batch_size, recipe.learning_rate) == ("resnet34", 3, 10, 0.5)
    assert (placement.world_size, placement.engine, placement.threads) == (2, "ddp", 3)


def test_the_learning_rate_follows_the_batch() -> None:
    rates = [
        resolve(TrainConfig(batch_size=size), shards(), TWO_CORES).recipe.learning_rate for size in (32, 64)
    ]
    assert rates == [0.05, 0.1]


def test_a_gpu_is_used_with_all_its_kin() -> None:
    found = resolve(TrainConfig(), shards(56_000, 28), machine(gpus=4, cores=64))
    assert (found.placement.device, found.placement.world_size, found.recipe.model) == ("cuda", 4, "resnet18")
    forced = resolve(TrainConfig(device="cpu"), shards(), machine(gpus=4, cores=64))
    assert forced.placement.device == "cpu"


def test_without_horovod_torch_joins_and_without_dali_torchvision_loads() -> None:
    found = resolve(TrainConfig(workers=2), shards(), machine(horovod=False, dali=False)).placement
    assert (found.engine, found.backend) == ("ddp", "torchvision")


def test_early_stopping_keeps_the_best() -> None:
    config = TrainConfig(early_stopping=EarlyStoppingConfig(patience=3))
    assert resolve(config, shards(), TWO_CORES).recipe.keep == "best"


def test_rare_classes_weigh_more() -> None:
    assert resolve(TrainConfig(), shards(counts=(1200, 200)), TWO_CORES).recipe.class_weighting == "balanced"
    assert resolve(TrainConfig(), shards(counts=(900, 500)), TWO_CORES).recipe.class_weighting == "none"


def test_a_batch_is_never_larger_than_the_data() -> None:
    recipe = resolve(TrainConfig(), shards(9), TWO_CORES).recipe
    assert (recipe.batch_size, recipe.steps_per_epoch) == (9, 1)


@pytest.mark.parametrize(
    ("config", "images", "what"),
    [
        (TrainConfig(workers=8), 9, "more workers than a batch"),
        (TrainConfig(), 1, "nothing to train on"),
        (TrainConfig(device="cuda"), 100, "no GPU"),
        (TrainConfig(amp=True), 100, "mixed precision"),
        (TrainConfig(backend="dali-gpu"), 100, "decodes on a GPU"),
    ],
)
def test_what_data_or_machine_make_impossible_is_refused(config: TrainConfig, images: int, what: str) -> None:
    with pytest.raises(InputError, match=what) as caught:
        resolve(config, shards(images), TWO_CORES)
    assert caught.value.todo or caught.value.where


def test_what_is_not_installed_is_refused_where_it_is_asked_for() -> None:
    with pytest.raises(InputError, match="Horovod is not installed"):
        resolve(TrainConfig(engine="horovod"), shards(), machine(horovod=False))
    with pytest.raises(InputError, match="DALI is not installed"):
        resolve(TrainConfig(backend="dali"), shards(), machine(dali=False))
    with pytest.raises(InputError, match="more workers than GPUs"):
        resolve(TrainConfig(workers=3), shards(), machine(gpus=2))
