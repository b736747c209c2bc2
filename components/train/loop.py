"""The training loop of one rank: batches in, the same weights on every rank out."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext

import torch
import torch.nn.functional as F  # noqa: N812 - the field's own name for it
from torch import Tensor, nn

from components.common.errors import StepError
from components.train.collectives.base import Collective
from components.train.determinism import reseed
from components.train.resolve import Recipe
from components.train.schedule import learning_rate
from components.train.state import TrainingState

REPORT_INTERVAL_S = 0.3


class TrainStep:
    """One optimisation step over the global batch, of which this rank holds a part (possibly none of it)."""

    def __init__(
        self,
        state: TrainingState,
        recipe: Recipe,
        collective: Collective,
        *,
        class_weights: Tensor | None,
        device: str,
    ) -> None:
        self.state, self.recipe, self.collective, self.device = state, recipe, collective, device
        self.class_weights = class_weights
        self.norms = [m for m in state.flat.model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]

    def __call__(self, step: int, images: Tensor, labels: Tensor) -> float:
        """Train on float32 images [n, C, S, S] and int64 labels [n]; returns the learning rate that was used."""
        flat, recipe = self.state.flat, self.recipe
        reseed(recipe.seed, step, self.collective.rank, device=self.device)
        if len(labels):
            self._backward(images, labels)
        else:
            flat.reduced.zero_()
            for norm in self.norms:
                if norm.num_batches_tracked is not None:
                    norm.num_batches_tracked.add_(1)
        with torch.no_grad():
            if self.collective.world_size > 1:
                torch.mul(flat.buffers, len(labels) / recipe.batch_size, out=flat.weighted_buffers)
                self.collective.reduce_buckets_(flat.reduced)
                flat.buffers.copy_(flat.weighted_buffers)
            if recipe.gradient_clip is not None:
                # torch.nn.utils.clip_grad_norm_'s rule.
                norm_ = torch.linalg.vector_norm(flat.gradients)
                flat.gradients.mul_(torch.clamp(recipe.gradient_clip / (norm_ + 1e-6), max=1.0))
            rate = learning_rate(
                step,
                peak=recipe.learning_rate,
                warmup_steps=recipe.warmup_steps,
                total_steps=recipe.total_steps,
            )
            self.state.optimizer.step(flat.parameters, flat.gradients, rate=rate, step=step)
            self.state.average(step)
        return rate

    def _backward(self, images: Tensor, labels: Tensor) -> None:
        flat, recipe = self.state.flat, self.recipe
        precision = torch.autocast(self.device, torch.bfloat16) if recipe.amp else nullcontext()
        with precision:
            logits = flat.model(images)
        logits = logits.float()
        # A sum over this rank's part, divided by the whole batch: the sum over ranks is the batch's mean, however
        # uneven the parts are.
        loss = F.cross_entropy(
            logits, labels, self.class_weights, reduction="sum", label_smoothing=recipe.label_smoothing
        )
        (loss / recipe.batch_size).backward()
        with torch.no_grad():
            flat.take_gradients()
            flat.statistics[0] = loss
            flat.statistics[1] = (logits.argmax(dim=1) == labels).sum()
            flat.statistics[2] = len(labels)


class Loop:
    """Runs the steps and what happens between them: sums for the history, validation, early stopping, checkpoints."""

    def __init__(
        self,
        step: TrainStep,
        *,
        validate: Callable[[], tuple[float, float] | None],
        on_progress: Callable[[dict[str, float]], None],
        on_epoch: Callable[[dict[str, float]], None],
        checkpoint_due: Callable[[int], bool],
        checkpoint: Callable[[], None],
    ) -> None:
        """`validate` returns loss and accuracy of the candidate weights, None where there are no validation images."""
        self.step, self.state, self.recipe = step, step.state, step.recipe
        self._validate, self._on_progress, self._on_epoch = validate, on_progress, on_epoch
        self._checkpoint_due, self._checkpoint = checkpoint_due, checkpoint
        # Summed where the network is, in double precision: reading it every step would make a GPU wait.
        self._sums = torch.zeros(3, dtype=torch.float64, device=self.state.flat.parameters.device)
        self._reported = time.monotonic()

    def run(self, batches: Iterator[tuple[Tensor, Tensor]]) -> None:
        """Train on every batch (this rank's images and labels), from `progress.step` on."""
        progress = self.state.progress
        self._put_sums()
        for images, labels in batches:
            rate = self.step(progress.step, images, labels)
            self._sums += self.state.flat.statistics
            progress.step += 1
            if time.monotonic() - self._reported >= REPORT_INTERVAL_S:
                self._report(rate)
            if progress.step % self.recipe.steps_per_epoch == 0:
                self._end_epoch(rate)
            if self._checkpoint_due(progress.step):
                self._take_sums()
                self._checkpoint()
            if progress.stopped:
                break

    def _end_epoch(self, rate: float) -> None:
        self._take_sums()
        progress, epoch = self.state.progress, len(self.state.progress.history)
        samples = max(progress.epoch_samples, 1.0)
        entry = {
            "epoch": epoch,
            "step": progress.step,
            "train_loss": progress.epoch_loss / samples,
            "train_accuracy": progress.epoch_correct / samples,
            "learning_rate": rate,
        }
        self._refuse_nonsense(entry["train_loss"], epoch)
        validated = self._validate()
        if validated is not None:
            entry["val_loss"], entry["val_accuracy"] = validated
            self._refuse_nonsense(entry["val_loss"], epoch)
        progress.history.append(entry)
        progress.epoch_loss = progress.epoch_correct = progress.epoch_samples = 0.0
        self._put_sums()
        self._judge(entry.get("val_accuracy", entry["train_accuracy"]), epoch)
        self._on_epoch(entry)

    def _judge(self, accuracy: float, epoch: int) -> None:
        progress, stopping = self.state.progress, self.recipe.early_stopping
        if progress.best_epoch < 0 or accuracy > progress.best_accuracy + stopping.min_delta:
            progress.best_accuracy, progress.best_epoch = accuracy, epoch
            self.state.remember_best()
        elif stopping.patience is not None and epoch - progress.best_epoch >= stopping.patience:
            progress.stopped = True

    def _report(self, rate: float) -> None:
        self._reported = time.monotonic()
        self._take_sums()
        progress = self.state.progress
        samples = max(progress.epoch_samples, 1.0)
        self._on_progress(
            {
                "step": progress.step,
                "loss": progress.epoch_loss / samples,
                "accuracy": progress.epoch_correct / samples,
                "learning_rate": rate,
            }
        )

    def _take_sums(self) -> None:
        progress = self.state.progress
        progress.epoch_loss, progress.epoch_correct, progress.epoch_samples = self._sums.tolist()

    def _put_sums(self) -> None:
        progress = self.state.progress
        sums = [progress.epoch_loss, progress.epoch_correct, progress.epoch_samples]
        self._sums.copy_(torch.tensor(sums, dtype=torch.float64))

    def _refuse_nonsense(self, loss: float, epoch: int) -> None:
        if not math.isfinite(loss):
            raise StepError(
                "the training diverged: the loss is no longer a number",
                where=f"epoch {epoch + 1}",
                found=f"learning rate {self.recipe.learning_rate:g}, batch {self.recipe.batch_size}",
                todo="lower train.learning_rate, or set train.gradient_clip: 1.0",
            )
