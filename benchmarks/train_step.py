"""Claim: a training step of Conveyor is at least 0.95 times as fast as the bare torch loop that does the same work.

Both train the same network on the same tensors in memory: forward, cross entropy with label smoothing, backward, SGD
with Nesterov momentum, weight decay and a cosine schedule. The peer is what a tutorial writes: `torch.optim.SGD`,
`zero_grad`, nothing else; it neither reseeds, nor sums loss and accuracy for the history, nor asks for deterministic
kernels, all of which ours does. Without the moving average on both sides; a third column shows ours with it (the
default). One thread, CPU time (so that neighbours on the machine do not count), steps taken in turns after a warm-up;
the ratio of each round, its mean and its spread are printed.

    python benchmarks/train_step.py [--rounds 8]
"""

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch import nn

from components.models.architectures import build_model
from components.train.collectives.inline import Inline
from components.train.config import TrainConfig
from components.train.determinism import deterministic
from components.train.flat import FlatModel
from components.train.loop import TrainStep
from components.train.optimizers import make_optimizer
from components.train.resolve import Recipe
from components.train.state import TrainingState

CLAIM = 0.95
CASES = [("lenet", 1, 8, 64, 40), ("lenet", 1, 28, 64, 8), ("resnet18", 3, 32, 32, 2)]
"""Network, channels, side in pixels, batch, steps in a round."""

Step = Callable[[int, torch.Tensor, torch.Tensor], object]


def our_step(name: str, channels: int, size: int, batch: int, *, ema_decay: float | None) -> Step:
    config = TrainConfig()
    recipe = Recipe(
        model=name,
        epochs=1,
        batch_size=batch,
        steps_per_epoch=100_000,
        optimizer="sgd",
        learning_rate=0.01,
        momentum=0.9,
        weight_decay=5e-4,
        warmup_steps=0,
        label_smoothing=0.1,
        class_weighting="none",
        ema_decay=ema_decay,
        keep="last",
        early_stopping=config.early_stopping,
        gradient_clip=None,
        seed=0,
        amp=False,
        augment=config.augment,
    )
    flat = FlatModel(network(name, channels, size))
    optimizer = make_optimizer(
        "sgd", flat.parameters, num_decayed=flat.num_decayed, momentum=0.9, weight_decay=5e-4
    )
    state = TrainingState(flat, optimizer, ema_decay=ema_decay, keep_best=False)
    return TrainStep(state, recipe, Inline(), class_weights=None, device="cpu")


def bare_step(name: str, channels: int, size: int) -> Step:
    model = network(name, channels, size)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, nesterov=True, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=100_000)
    loss_of = nn.CrossEntropyLoss(label_smoothing=0.1)

    def step(number: int, images: torch.Tensor, labels: torch.Tensor) -> None:  # noqa: ARG001 - as ours
        optimizer.zero_grad()
        loss_of(model(images), labels).backward()
        optimizer.step()
        schedule.step()

    return step


def network(name: str, channels: int, size: int) -> nn.Module:
    torch.manual_seed(0)
    return build_model(name, num_classes=10, channels=channels, image_size=size).train()


def cpu_seconds(step: Step, images: torch.Tensor, labels: torch.Tensor, num_steps: int) -> float:
    started = time.process_time()
    for number in range(num_steps):
        step(number, images, labels)
    return time.process_time() - started


def measure(case: tuple[str, int, int, int, int], rounds: int) -> dict[str, Any]:
    name, channels, size, batch, num_steps = case
    images, labels = torch.randn(batch, channels, size, size), torch.arange(batch) % 10
    steps = {
        "bare": bare_step(name, channels, size),
        "ours": our_step(name, channels, size, batch, ema_decay=None),
        "ours_ema": our_step(name, channels, size, batch, ema_decay=0.99),
    }
    times: dict[str, list[float]] = {who: [] for who in steps}
    for round_number in range(rounds + 1):
        for who, step in steps.items():
            with deterministic(threads=1, device="cpu"):
                if who == "bare":
                    torch._C._set_deterministic_algorithms(False, warn_only=False)
                seconds = cpu_seconds(step, images, labels, num_steps)
            if round_number:  # the first is the warm-up
                times[who].append(seconds)
    ratios = [bare / ours for bare, ours in zip(times["bare"], times["ours"], strict=True)]
    with_ema = [bare / ours for bare, ours in zip(times["bare"], times["ours_ema"], strict=True)]
    return {
        "case": f"{name} {channels}x{size}x{size}, batch {batch}",
        "bare_ms": 1e3 * statistics.median(times["bare"]) / num_steps,
        "ours_ms": 1e3 * statistics.median(times["ours"]) / num_steps,
        "ratio": statistics.mean(ratios),
        "spread": statistics.stdev(ratios),
        "ratio_with_ema": statistics.mean(with_ema),
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = [measure(case, arguments.rounds) for case in CASES]
    if arguments.json:
        print(json.dumps(rows))
    else:
        print(f"bare torch loop / Conveyor's step, CPU time, {arguments.rounds} rounds")
        for row in rows:
            print(
                "{case:28} bare {bare_ms:6.2f} ms  ours {ours_ms:6.2f} ms  ratio {ratio:.3f} ± {spread:.3f}"
                "  (with the moving average {ratio_with_ema:.3f})".format(**row)
            )
    worst = min(row["ratio"] for row in rows)
    print(f"claim: ratio >= {CLAIM}: {'holds' if worst >= CLAIM else 'does not hold'}", file=sys.stderr)
    return 0 if worst >= CLAIM else 1


if __name__ == "__main__":
    sys.exit(main())
