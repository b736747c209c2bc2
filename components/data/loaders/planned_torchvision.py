"""The torchvision backend: the same plan, decoded by Pillow and executed by torchvision's functions, in threads."""

import io
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from components.data.loaders.batch import View, Work, normalisation

if TYPE_CHECKING:
    import torch

PREFETCH = 2
"""Batches in the making at once."""
LUMA = (0.299, 0.587, 0.114)
"""Rec. 601, which DALI's saturation weighs by."""

T = TypeVar("T")


class TorchvisionBackend:
    """Runs wherever torch does; the reference that DALI is compared with."""

    @contextmanager
    def augmented(
        self,
        view: View,
        work: Iterable[Work],
        *,
        batch_size: int,
        num_threads: int,
        device: "torch.device | None",
    ) -> "Iterator[Iterator[tuple[Work, torch.Tensor]]]":
        functional = _functional()
        with ThreadPoolExecutor(num_threads, "loader") as pool:
            yield _ahead(pool, work, lambda item: _augment(view, item, functional))

    @contextmanager
    def windows(
        self, view: View, work: Iterable[Work], *, batch_size: int, num_threads: int
    ) -> Iterator[Iterator[tuple[Work, NDArray[np.uint8]]]]:
        with ThreadPoolExecutor(num_threads, "loader") as pool:
            yield _ahead(pool, work, lambda item: _windows(view, item))


def _functional() -> Any:
    from components.common.torchvision_compat import import_torchvision

    import_torchvision()
    from torchvision.transforms.v2 import functional

    return functional


def _ahead(
    pool: ThreadPoolExecutor,
    work: Iterable[Work],
    how: Callable[[Work], tuple[Callable[[int], None], T]],
) -> Iterator[tuple[Work, T]]:
    """Begin each batch (`how` gives what fills one place of it, and the whole) some batches before it is asked for."""
    pending: deque[tuple[Work, T, list[Future[None]]]] = deque()
    try:
        for item in work:
            fill, whole = how(item)
            pending.append((item, whole, [pool.submit(fill, place) for place in range(len(item.labels))]))
            if len(pending) > PREFETCH:
                yield _finished(*pending.popleft())
        while pending:
            yield _finished(*pending.popleft())
    finally:
        for _, _, futures in pending:
            for future in futures:
                future.cancel()


def _finished(item: Work, whole: T, futures: list[Future[None]]) -> tuple[Work, T]:
    for future in futures:
        future.result()
    return item, whole


def _augment(view: View, item: Work, functional: Any) -> "tuple[Callable[[int], None], torch.Tensor]":
    import torch

    size = view.image_size
    whole = torch.empty((len(item.labels), view.channels, size, size), dtype=torch.float32)
    offsets, scales = (torch.from_numpy(a)[..., None, None] for a in normalisation(view, item.plan))
    luma = torch.tensor(LUMA)[:, None, None]

    def fill(place: int) -> None:
        pixels = _decode(item.samples[place], view.channels) if view.encoded else item.samples[place]
        image = torch.from_numpy(np.array(pixels)).permute(2, 0, 1)  # a copy: shards are mapped read-only
        if view.windowed:
            top, left, height, width = item.plan.crops[place].tolist()
            image = functional.resized_crop(
                image,
                top,
                left,
                height,
                width,
                [size, size],
                functional.InterpolationMode.BILINEAR,
                antialias=True,
            )
        if item.plan.flips[place]:
            image = functional.horizontal_flip(image)
        image = image.to(torch.float32)
        saturation = float(item.plan.colours[place, 2])
        if view.channels == 3 and saturation != 1:
            image = saturation * image + (1 - saturation) * (luma * image).sum(dim=0, keepdim=True)
        torch.div(image - offsets[place], scales[place], out=whole[place])

    return fill, whole


def _windows(view: View, item: Work) -> tuple[Callable[[int], None], NDArray[np.uint8]]:
    size = view.image_size
    whole = np.empty((len(item.labels), size, size, view.channels), dtype=np.uint8)

    def fill(place: int) -> None:
        top, left, height, width = item.plan.crops[place].tolist()
        pixels = _decode(item.samples[place], view.channels)
        whole[place] = pixels[top : top + height, left : left + width]

    return fill, whole


def _decode(encoded: NDArray[np.uint8], channels: int) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(encoded.tobytes())) as image:
        pixels = np.array(image.convert("RGB" if channels == 3 else "L"))
    return pixels if channels == 3 else pixels[..., None]
