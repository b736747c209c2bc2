"""What a loader hands out, and what it hands to the backend that makes it."""

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from components.data.augment import Plan

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class Batch:
    """n samples, ready for a network."""

    images: "torch.Tensor"
    """float32 [n, channels, size, size], contiguous, normalised. Never overwritten: a batch may be kept."""
    labels: "torch.Tensor"
    """int64 [n]"""
    positions: NDArray[np.int64]
    """[n] In training the position in the whole stream (step × global batch + place); in evaluation the index."""
    indices: NDArray[np.int64]
    """[n] Number of the sample within its split, in index order."""


@dataclass(frozen=True, slots=True)
class View:
    """What every sample of a stream goes through, whichever backend does it."""

    encoded: bool
    """Samples are encoded images (1-d byte arrays); otherwise pixels, uint8 HWC."""
    windowed: bool
    """The plan's crop is to be cut out and resized; otherwise the samples are cut already."""
    image_size: int
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    colours: bool
    """Whether any colour factor differs from 1."""


@dataclass(frozen=True, slots=True)
class Work:
    """One batch that is still to be decoded and augmented."""

    samples: list[NDArray[np.uint8]] | NDArray[np.uint8]
    """n encoded images or n pixel arrays; one array [n, H, W, C] where all have one size."""
    plan: Plan
    labels: NDArray[np.int64]
    positions: NDArray[np.int64]
    indices: NDArray[np.int64]


class Backend(Protocol):
    """Executes plans. Both calls keep the order, work ahead in the background, and depend on nothing but the work."""

    def augmented(
        self,
        view: View,
        work: Iterable[Work],
        *,
        batch_size: int,
        num_threads: int,
        device: "torch.device | None",
    ) -> AbstractContextManager[Iterator[tuple[Work, "torch.Tensor"]]]:
        """Each work with its images: float32 [n, C, S, S], normalised. `batch_size` bounds n."""
        ...

    def windows(
        self, view: View, work: Iterable[Work], *, batch_size: int, num_threads: int
    ) -> AbstractContextManager[Iterator[tuple[Work, NDArray[np.uint8]]]]:
        """Each work of encoded images with the pixels of its crops, not resized: uint8 [n, S, S, C]."""
        ...


def normalisation(view: View, plan: Plan) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Offsets and scales, each float32 [n, C], such that (pixel - offset) / scale is the network's input.

    Brightness b and contrast c are folded in: pixel' = b (c (pixel - 128) + 128), input = (pixel' / 255 - mean) / std.
    Nothing is clipped in between, so a network sees values slightly beyond the usual range rather than flat areas.
    """
    gain = (plan.colours[:, 0] * plan.colours[:, 1]).astype(np.float64)[:, None]
    contrast = plan.colours[:, 1].astype(np.float64)[:, None]
    mean, std = np.asarray(view.mean) * 255, np.asarray(view.std) * 255
    offset = 128 - 128 / contrast + mean / gain
    return offset.astype(np.float32), (std / gain).astype(np.float32)


def normalise(
    images: NDArray[np.uint8], mean: tuple[float, ...], std: tuple[float, ...]
) -> NDArray[np.float32]:
    """uint8 [n, H, W, C] → float32 [n, C, H, W], (pixel / 255 - mean) / std.

    Evaluation and prediction both come through here, so that they agree to the last bit."""
    num, height, width, channels = images.shape
    scale = (1 / (255 * np.asarray(std))).astype(np.float32)
    bias = (-np.asarray(mean) / np.asarray(std)).astype(np.float32)
    out = np.empty((num, channels, height, width), dtype=np.float32)
    for channel in range(channels):
        np.multiply(images[..., channel], scale[channel], out=out[:, channel])
        out[:, channel] += bias[channel]
    return out
