"""Healing a pruned network: training on labels and on the uncompressed teacher's answers."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from components.common.errors import StepError
from components.models.onnx_predictor import OnnxPredictor

WARMUP_SHARE = 0.1
CLIP_NORM = 5.0


Teacher = Callable[[Tensor], Tensor]
"""Images [n, C, S, S] → logits [n, K], without gradients."""


class DivergedError(StepError):
    """The loss became infinite or no number."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to fine-tune."""

    num_steps: int
    learning_rate: float
    weight_decay: float
    distillation: float
    temperature: float


def finetune(
    student: nn.Module,
    teacher: Teacher,
    batches: Iterable[Any],
    recipe: Recipe,
    *,
    device: torch.device,
    on_step: Callable[[int, float], None],
) -> nn.Module:
    """Train `student` in place and return it in evaluation mode on the CPU; `on_step` hears images and loss.

    Each batch has `images` float32 [n, C, S, S] and `labels` int64 [n]; there are `recipe.num_steps` of them.

    The loss is `(1 - w) · cross entropy + w · T² · KL(teacher ‖ student)` of logits divided by T. Seed and threads are
    the caller's (see `reproducible`). Raises `DivergedError` where the loss is no number any more.

    Source: Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network" (2015).
    """
    # Convolutions are a third faster in this layout on CPUs, and no slower on GPUs.
    layout = torch.channels_last
    student.to(device, memory_format=layout).train()  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(
        _groups(student, recipe.weight_decay), lr=recipe.learning_rate, foreach=False
    )
    for step, batch in enumerate(batches):
        rate = recipe.learning_rate * schedule(step, recipe.num_steps)
        for group in optimizer.param_groups:
            group["lr"] = rate
        images, labels = batch.images.to(device), batch.labels.to(device)
        answers = teacher(images) if recipe.distillation else None
        loss = _loss(student(images.contiguous(memory_format=layout)), labels, answers, recipe)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(student.parameters(), CLIP_NORM, foreach=False)
        optimizer.step()
        value = float(loss.detach())
        if not math.isfinite(value):
            raise DivergedError(
                "fine-tuning a pruned network diverged",
                found=f"loss {value} in step {step + 1} of {recipe.num_steps}",
                todo="lower compress.prune.learning_rate",
            )
        on_step(len(labels), value)
    plain: nn.Module = student.to("cpu", memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return plain.eval()


def torch_teacher(model: nn.Module, device: torch.device) -> Teacher:
    """The network itself, in evaluation mode."""
    model.to(device).eval()

    def answer(images: Tensor) -> Tensor:
        with torch.no_grad():
            logits: Tensor = model(images)
        return logits

    return answer


def onnx_teacher(model: OnnxPredictor) -> Teacher:
    """The same network as ONNX: on a CPU some three times as fast as in torch."""
    return lambda images: torch.from_numpy(model(np.ascontiguousarray(images.numpy())))


def schedule(step: int, total: int) -> float:
    """Share of the peak rate in `step` of `total`: linear warm-up over the first tenth, then half a cosine."""
    warmup = max(1, round(total * WARMUP_SHARE))
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / max(1, total - warmup))))


def _loss(logits: Tensor, labels: Tensor, answers: Tensor | None, recipe: Recipe) -> Tensor:
    hard = functional.cross_entropy(logits, labels)
    if answers is None:
        return hard
    temperature = recipe.temperature
    soft = functional.kl_div(
        functional.log_softmax(logits / temperature, dim=1),
        functional.log_softmax(answers / temperature, dim=1),
        reduction="batchmean",
        log_target=True,
    )
    return (1 - recipe.distillation) * hard + recipe.distillation * temperature**2 * soft


def _groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Weights decay; biases and batch norms (all that have one axis) do not."""
    decayed = [p for p in model.parameters() if p.ndim > 1]
    plain = [p for p in model.parameters() if p.ndim <= 1]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]
