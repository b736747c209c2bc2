"""Everything that a training knows between two steps, and its form in a checkpoint."""

import dataclasses
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from components.common.canonical import Json, digest_json
from components.common.errors import StoreError
from components.train.flat import FlatModel
from components.train.optimizers import Optimizer
from components.train.schedule import ema_factor


@dataclass
class Progress:
    """The numbers of a training; all of them are equal on every rank."""

    step: int = 0
    """Steps done."""
    epoch_loss: float = 0.0
    """Sum over the images of the current epoch; so for the next two."""
    epoch_correct: float = 0.0
    epoch_samples: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)
    """One entry for each finished epoch."""
    best_accuracy: float = -1.0
    best_epoch: int = -1
    stopped: bool = False
    """Early stopping has ended the training."""


class TrainingState:
    """Flat weights, optimizer, moving average, the best so far, and the progress."""

    def __init__(
        self, flat: FlatModel, optimizer: Optimizer, *, ema_decay: float | None, keep_best: bool
    ) -> None:
        self.flat, self.optimizer, self.ema_decay = flat, optimizer, ema_decay
        self.progress = Progress()
        self.averages: tuple[Tensor, Tensor] | None = None
        if ema_decay is not None:
            self.averages = flat.parameters.clone(), flat.buffers.clone()
        self.best: tuple[Tensor, Tensor] | None = None
        if keep_best:
            self.best = flat.parameters.clone(), flat.buffers.clone()

    def average(self, step: int) -> None:
        """Take the weights after `step` into the moving average (Polyak and Juditsky 1992)."""
        if self.averages is not None and self.ema_decay is not None:
            share = 1 - ema_factor(step, self.ema_decay)
            self.averages[0].lerp_(self.flat.parameters, share)
            self.averages[1].lerp_(self.flat.buffers, share)

    def candidate(self) -> tuple[Tensor, Tensor]:
        """The weights that would be the result now: parameters [P] and buffers [F]."""
        return self.averages or (self.flat.parameters, self.flat.buffers)

    def remember_best(self) -> None:
        if self.best is not None:
            for kept, now in zip(self.best, self.candidate(), strict=True):
                kept.copy_(now)

    def result(self) -> dict[str, Tensor]:
        """The state dict of the trained network."""
        parameters, buffers = self.best or self.candidate()
        return self.flat.named(parameters, buffers)

    def tensors(self) -> dict[str, Tensor]:
        """Name → live tensor of all that a checkpoint holds besides the progress."""
        held = {"parameters": self.flat.parameters, "buffers": self.flat.buffers}
        held |= {f"optimizer.{name}": value for name, value in self.optimizer.state.items()}
        held |= {f"integer.{name}": value for name, value in self.flat.integers.items()}
        for prefix, pair in (("average", self.averages), ("best", self.best)):
            if pair is not None:
                held |= {f"{prefix}.parameters": pair[0], f"{prefix}.buffers": pair[1]}
        return held

    def describe(self) -> dict[str, Json]:
        """The progress and the layout, as JSON."""
        return {"version": 1, "layout": self.layout_digest(), "progress": dataclasses.asdict(self.progress)}

    def layout_digest(self) -> str:
        layout: Any = [self.flat.layout.describe(), self.flat.buffer_layout.describe()]
        return digest_json(layout)

    def load(self, tensors: dict[str, Tensor], description: dict[str, Any], *, where: str) -> None:
        """Take over a checkpoint. Raises `StoreError` for one of another network."""
        held = self.tensors()
        if description.get("layout") != self.layout_digest() or set(held) != set(tensors):
            raise StoreError("the checkpoint belongs to another network", where=where)
        with torch.no_grad():
            for name, value in held.items():
                value.copy_(tensors[name])
        self.progress = Progress(**description["progress"])
