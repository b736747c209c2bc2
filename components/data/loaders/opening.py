"""Opening a loader: index, cache, plan and backend put together."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from components.common.blobs import Blobs
from components.common.errors import InputError
from components.common.refs import ShardsRef, Split
from components.data.augment import AugmentConfig, resolve
from components.data.cache import CacheConfig, open_shards
from components.data.index import read_index
from components.data.loaders.batch import Backend, Batch, View, Work, normalise
from components.data.loaders.dali import DaliBackend
from components.data.loaders.planned_torchvision import TorchvisionBackend
from components.data.loaders.reading import (
    SampleReader,
    StreamWindows,
    evaluation_windows,
    evaluation_work,
    training_work,
)
from components.data.order import SampleStream, rank_slice

if TYPE_CHECKING:
    import torch

BACKENDS: dict[str, Callable[[], Backend]] = {
    "dali": lambda: DaliBackend(gpu=False),
    "dali-gpu": lambda: DaliBackend(gpu=True),
    "torchvision": TorchvisionBackend,
}
"""Loader backends by name; another one needs only an entry here."""


@contextmanager
def open_training_loader(
    shards: ShardsRef,
    blobs: Blobs,
    *,
    augmentation: AugmentConfig,
    seed: int,
    global_batch: int,
    rank: int,
    world_size: int,
    start_step: int,
    stop_step: int,
    backend: str = "dali",
    num_threads: int = 2,
    cache: CacheConfig | None = None,
    device: "torch.device | None" = None,
) -> Iterator[Iterator[Batch]]:
    """Rank `rank`'s batches of steps [start_step, stop_step), which count from 0 through all epochs.

    An epoch has floor(n / B) steps of B = min(global_batch, n) samples; rank r of W takes the places
    [B r // W, B (r + 1) // W) of each, which is empty where W > B. What a step holds depends on the seed alone.
    Raises `InputError` for an unknown backend, an empty training split or a cache that is too small.
    """
    index = read_index(shards, blobs, "train")
    if not len(index):
        raise InputError("the training split holds no image", where=f"shards {shards.tree}")
    stream = SampleStream(seed, index.block_sizes, global_batch)
    windows = StreamWindows(stream, start_step, stop_step)
    size, channels = shards.image_size, shards.channels
    resolved = resolve(
        augmentation,
        image_size=size,
        stored_size=shards.stored_size,
        channels=channels,
        raw=index.format == "npy",
    )
    executor = make_backend(backend)
    with ExitStack() as stack:
        files = stack.enter_context(open_shards(blobs, index.shards, windows.shards, cache or CacheConfig()))
        reader = SampleReader(index, files, image_size=size, channels=channels)
        work = training_work(
            reader,
            index,
            stream,
            windows,
            resolved,
            rank=rank,
            world_size=world_size,
            start_step=start_step,
            stop_step=stop_step,
            image_size=size,
        )
        start, stop = rank_slice(stream.batch_size, rank, world_size)
        if start == stop:
            yield (_batch(item, _no_images(channels, size)) for item in work)
            return
        view = View(
            encoded=reader.encoded,
            windowed=not reader.exact or resolved.crop == "rescale",
            image_size=size,
            channels=channels,
            mean=shards.mean,
            std=shards.std,
            colours=resolved.colours,
        )
        made = stack.enter_context(
            executor.augmented(view, work, batch_size=stop - start, num_threads=num_threads, device=device)
        )
        yield (_batch(item, images) for item, images in made)


@contextmanager
def open_evaluation_loader(
    shards: ShardsRef,
    blobs: Blobs,
    *,
    split: Split,
    batch_size: int,
    backend: str = "dali",
    num_threads: int = 2,
    cache: CacheConfig | None = None,
    rank: int = 0,
    world_size: int = 1,
) -> Iterator[Iterator[Batch]]:
    """Each sample of a split once, in index order, centrally cropped; no batch is empty, the last may be smaller.

    Rank r of W takes the contiguous part [n r // W, n (r + 1) // W), so that all ranks together see the split.
    The pixels are the same on every backend, to the last bit, where the split is stored without loss.
    """
    index = read_index(shards, blobs, split)
    start, stop = rank_slice(len(index), rank, world_size)
    executor = make_backend(backend)
    with ExitStack() as stack:
        windows = evaluation_windows(index, start, stop)
        files = stack.enter_context(open_shards(blobs, index.shards, windows, cache or CacheConfig()))
        reader = SampleReader(index, files, image_size=shards.image_size, channels=shards.channels)
        work = evaluation_work(
            reader, index, start=start, stop=stop, batch_size=batch_size, image_size=shards.image_size
        )
        if reader.encoded and start < stop:
            view = View(
                encoded=True,
                windowed=True,
                image_size=shards.image_size,
                channels=shards.channels,
                mean=shards.mean,
                std=shards.std,
                colours=False,
            )
            made = stack.enter_context(
                executor.windows(view, work, batch_size=batch_size, num_threads=num_threads)
            )
        else:
            made = ((item, _cut(item)) for item in work)
        yield (_evaluated(item, pixels, shards) for item, pixels in made)


def make_backend(name: str) -> Backend:
    """The backend of that name. Raises `InputError` that lists them."""
    if name not in BACKENDS:
        raise InputError(
            "unknown loader backend", expected=f"one of {', '.join(sorted(BACKENDS))}", found=repr(name)
        )
    return BACKENDS[name]()


def _batch(item: Work, images: "torch.Tensor") -> Batch:
    import torch

    return Batch(images, torch.from_numpy(item.labels), item.positions, item.indices)


def _no_images(channels: int, size: int) -> "torch.Tensor":
    import torch

    return torch.empty((0, channels, size, size), dtype=torch.float32)


def _cut(item: Work) -> NDArray[np.uint8]:
    """The central windows of raw pixels."""
    if isinstance(item.samples, np.ndarray):
        return item.samples
    windows = (
        pixels[y : y + h, x : x + w]
        for pixels, (y, x, h, w) in zip(item.samples, item.plan.crops, strict=True)
    )
    return np.stack(list(windows))


def _evaluated(item: Work, pixels: NDArray[np.uint8], shards: ShardsRef) -> Batch:
    import torch

    return _batch(item, torch.from_numpy(normalise(pixels, shards.mean, shards.std)))
