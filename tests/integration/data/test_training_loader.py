"""What a training loader hands out depends on the seed and the step alone."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from components.common.errors import InputError
from components.data.augment import AugmentConfig
from components.data.index import read_index
from components.data.loaders import BACKENDS, Batch, CacheConfig, open_training_loader

CPU_BACKENDS = ["dali", "torchvision"]
SEED = 3
GLOBAL_BATCH = 12
STEPS = 9


def load(dataset: Any, **changes: Any) -> list[Batch]:
    settings: dict[str, Any] = {
        "augmentation": AugmentConfig(),
        "seed": SEED,
        "global_batch": GLOBAL_BATCH,
        "rank": 0,
        "world_size": 1,
        "start_step": 0,
        "stop_step": STEPS,
        "backend": "dali",
        "num_threads": 1,
    }
    with open_training_loader(dataset.shards, dataset.blobs, **(settings | changes)) as batches:
        return list(batches)


def assert_equal(one: list[Batch], two: list[Batch]) -> None:
    assert len(one) == len(two)
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a.indices, b.indices)
        np.testing.assert_array_equal(a.positions, b.positions)
        assert torch.equal(a.labels, b.labels)
        assert torch.equal(a.images, b.images)


def joined(parts: list[Batch]) -> Batch:
    return Batch(
        torch.cat([part.images for part in parts]),
        torch.cat([part.labels for part in parts]),
        np.concatenate([part.positions for part in parts]),
        np.concatenate([part.indices for part in parts]),
    )


@pytest.mark.parametrize("backend", CPU_BACKENDS)
def test_batches_are_what_they_say(dataset: Any, backend: str) -> None:
    shards = dataset.shards
    index = read_index(shards, dataset.blobs, "train")
    batches = load(dataset, backend=backend)
    assert len(batches) == STEPS
    for step, batch in enumerate(batches):
        size = shards.image_size
        assert batch.images.shape == (GLOBAL_BATCH, shards.channels, size, size)
        assert batch.images.dtype == torch.float32
        assert batch.images.is_contiguous()
        assert batch.labels.dtype == torch.int64
        np.testing.assert_array_equal(batch.labels.numpy(), index.label[batch.indices])
        first = step * GLOBAL_BATCH
        assert batch.positions.tolist() == list(range(first, first + GLOBAL_BATCH))
    everything = torch.cat([batch.images for batch in batches])
    assert abs(float(everything.mean())) < 0.3
    assert 0.7 < float(everything.std()) < 1.3


@pytest.mark.parametrize("backend", CPU_BACKENDS)
@pytest.mark.parametrize("world_size", [1, 2, 3, 8])
def test_world_size_changes_nothing(dataset: Any, backend: str, world_size: int) -> None:
    whole = load(dataset, backend=backend, stop_step=5)
    ranks = [
        load(dataset, backend=backend, stop_step=5, rank=rank, world_size=world_size)
        for rank in range(world_size)
    ]
    assert_equal(whole, [joined(list(parts)) for parts in zip(*ranks, strict=True)])


@pytest.mark.parametrize("backend", CPU_BACKENDS)
@pytest.mark.parametrize("start", [1, 4, STEPS - 1])
def test_a_resumed_loader_goes_on(dataset: Any, backend: str, start: int) -> None:
    assert_equal(load(dataset, backend=backend)[start:], load(dataset, backend=backend, start_step=start))


@pytest.mark.parametrize("backend", CPU_BACKENDS)
def test_threads_change_nothing(dataset: Any, backend: str) -> None:
    assert_equal(load(dataset, backend=backend), load(dataset, backend=backend, num_threads=4))


@pytest.mark.parametrize("backend", CPU_BACKENDS)
def test_the_batch_size_does_not_change_an_image(dataset: Any, backend: str) -> None:
    """Within the first epoch: the same images at the same places, cut into other batches."""
    small = joined(load(dataset, backend=backend, global_batch=5, stop_step=6))
    large = joined(load(dataset, backend=backend, global_batch=30, stop_step=1))
    assert_equal([small], [large])


@pytest.mark.parametrize(
    ("augmentation", "most", "mean"),
    [
        (AugmentConfig(brightness=0.0, contrast=0.0, saturation=0.0), 5.0, 0.3),
        (AugmentConfig(crop="rescale", brightness=0.3, contrast=0.3, saturation=0.5), 7.0, 0.4),
        (AugmentConfig(crop="none", horizontal_flip=True), 5.0, 0.3),
        (AugmentConfig(crop="shift", horizontal_flip=True), 5.0, 0.3),
    ],
)
def test_dali_and_torchvision_agree(
    dataset: Any, augmentation: AugmentConfig, most: float, mean: float
) -> None:
    """Up to rounding in decoder and resampler; differences in steps of 1/255."""
    one, two = (joined(load(dataset, backend=backend, augmentation=augmentation)) for backend in CPU_BACKENDS)
    np.testing.assert_array_equal(one.indices, two.indices)
    scale = torch.tensor(dataset.shards.std)[:, None, None] * 255
    difference = ((one.images - two.images) * scale).abs()
    assert float(difference.max()) < most
    assert float(difference.mean()) < mean


def test_raw_pixels_without_rescaling_agree_to_float_rounding(raw: Any) -> None:
    one, two = (joined(load(raw, backend=backend)) for backend in CPU_BACKENDS)
    torch.testing.assert_close(one.images, two.images, rtol=0, atol=1e-5)


def test_augmentation_changes_with_the_epoch(dataset: Any) -> None:
    index = read_index(dataset.shards, dataset.blobs, "train")
    batches = load(dataset, global_batch=len(index), stop_step=2)
    first, second = ({int(n): image for n, image in zip(b.indices, b.images, strict=True)} for b in batches)
    assert sorted(first) == sorted(second) == list(range(len(index)))
    assert batches[0].indices.tolist() != batches[1].indices.tolist()
    same = sum(torch.equal(first[number], second[number]) for number in first)
    assert same < len(first) / 4


def test_kept_batches_are_never_overwritten(dataset: Any) -> None:
    with open_training_loader(
        dataset.shards,
        dataset.blobs,
        augmentation=AugmentConfig(),
        seed=0,
        global_batch=10,
        rank=0,
        world_size=1,
        start_step=0,
        stop_step=20,
    ) as batches:
        kept = [(batch.images, batch.images.clone()) for batch in batches]
    assert all(torch.equal(now, then) for now, then in kept)


def test_ranks_without_samples_get_empty_batches(raw: Any) -> None:
    sizes = [
        [len(batch.labels) for batch in load(raw, global_batch=2, rank=rank, world_size=3, stop_step=2)]
        for rank in range(3)
    ]
    assert sizes == [[0, 0], [1, 1], [1, 1]]


def test_a_batch_larger_than_the_split(raw: Any) -> None:
    (batch,) = load(raw, global_batch=1000, stop_step=1)
    assert len(batch.labels) == raw.shards.splits["train"]


def test_no_steps_no_batches(dataset: Any) -> None:
    assert load(dataset, start_step=4, stop_step=4) == []


def test_leaving_early_is_no_error(dataset: Any) -> None:
    for backend in CPU_BACKENDS:
        with open_training_loader(
            dataset.shards,
            dataset.blobs,
            augmentation=AugmentConfig(),
            seed=0,
            global_batch=8,
            rank=0,
            world_size=1,
            start_step=0,
            stop_step=1000,
            backend=backend,
        ) as batches:
            next(batches)


@pytest.mark.parametrize("backend", CPU_BACKENDS)
def test_a_cache_far_smaller_than_the_data(raw: Any, backend: str, tmp_path: Path) -> None:
    """The same batches as from the store in place, with room for one window of shards and one shard more."""
    index = read_index(raw.shards, raw.blobs, "train")
    total = sum(shard.size_bytes for shard in index.shards)
    largest = sorted((shard.size_bytes for shard in index.shards), reverse=True)
    bound = sum(largest[:8]) + largest[0]
    assert bound < total / 3
    cache = CacheConfig(max_bytes=bound, folder=str(tmp_path), force=True)
    assert_equal(load(raw, backend=backend), load(raw, backend=backend, cache=cache))
    assert sum(path.stat().st_size for path in tmp_path.rglob("*.tar")) <= bound


def test_unknown_backend(dataset: Any) -> None:
    with pytest.raises(InputError, match="unknown loader backend"):
        load(dataset, backend="tensorflow")


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
def test_the_gpu_backend_says_that_there_is_no_gpu(dataset: Any) -> None:
    with pytest.raises(InputError, match="needs a GPU"):
        load(dataset, backend="dali-gpu")


def test_another_backend_is_one_entry(dataset: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BACKENDS, "mine", BACKENDS["torchvision"])
    assert_equal(load(dataset, backend="mine"), load(dataset, backend="torchvision"))
