"""Run a model over a whole split and keep what it said."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from components.common.progress import Task

if TYPE_CHECKING:
    from torch import nn

Forward = Callable[[NDArray[np.float32]], NDArray[Any]]


class LabelledBatch(Protocol):
    """What the evaluation loader yields; arrays or tensors."""

    @property
    def images(self) -> Any: ...
    @property
    def labels(self) -> Any: ...
    @property
    def indices(self) -> Any: ...


@dataclass(frozen=True)
class Outputs:
    """A model's answers to a split, in the order of the split's rows."""

    logits: NDArray[np.float32]
    """[n, K]"""
    labels: NDArray[np.int64]
    """[n]: the truth."""
    indices: NDArray[np.int64]
    """[n]: rows of the split's part of the shard index."""


def collect(batches: Iterable[LabelledBatch], forward: Forward, *, task: Task | None = None) -> Outputs:
    """Feed every batch's images [n, C, S, S] through `forward` and gather the logits, sorted by index."""
    logits, labels, indices = [], [], []
    for batch in batches:
        images = np.asarray(batch.images)
        logits.append(np.asarray(forward(images), dtype=np.float32))
        labels.append(np.asarray(batch.labels, dtype=np.int64))
        indices.append(np.asarray(batch.indices, dtype=np.int64))
        if task is not None:
            task.advance(len(images))
    if not logits:
        return Outputs(np.zeros((0, 0), np.float32), np.zeros(0, np.int64), np.zeros(0, np.int64))
    order = np.argsort(np.concatenate(indices), kind="stable")
    return Outputs(
        np.concatenate(logits)[order], np.concatenate(labels)[order], np.concatenate(indices)[order]
    )


def torch_forward(model: "nn.Module", device: str = "cpu") -> Forward:
    """`model` (in evaluation mode) as a function of numpy arrays."""
    import torch

    model = model.to(device).eval()

    def forward(images: NDArray[np.float32]) -> NDArray[Any]:
        with torch.inference_mode():
            logits: NDArray[Any] = model(torch.from_numpy(images).to(device)).float().cpu().numpy()
        return logits

    return forward
