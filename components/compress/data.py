"""The batches that compress needs: to heal, to calibrate, to judge."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.common.refs import ShardsRef, Split
from components.common.step import StepContext
from components.compress.config import CompressConfig
from components.compress.resolve import Place, Plan, num_cpus
from components.data.augment import AugmentConfig
from components.data.loaders import open_evaluation_loader, open_training_loader

EVALUATION_BATCH = 64
CALIBRATION_BATCH = 32
PLAIN = AugmentConfig(crop="none", horizontal_flip=False, brightness=0.0, contrast=0.0, saturation=0.0)


class Data:
    """The loaders that compress needs, with what they have in common."""

    def __init__(self, config: CompressConfig, shards: ShardsRef, context: StepContext, where: Place) -> None:
        self.shards, self.place = shards, where
        self.context = context
        self._common: dict[str, Any] = {
            "backend": where.backend,
            "num_threads": config.num_loader_threads or num_cpus(),
        }

    def evaluation(self, split: Split) -> Any:
        return open_evaluation_loader(
            self.shards, self.context.blobs, split=split, batch_size=EVALUATION_BATCH, **self._common
        )

    @contextmanager
    def training(self, plan: Plan, seed: int, title: str) -> Iterator[tuple[Iterator[Any], Any]]:
        """Augmented batches of all steps, and the callback that shows their progress."""
        total = plan.num_steps * plan.batch_size
        with (
            self.context.reporter.task(title, total=total, unit="images") as task,
            self._open(AugmentConfig(), seed, plan.batch_size, plan.num_steps) as batches,
        ):
            yield batches, lambda num, loss: task.advance(num, loss=round(loss, 3))

    def calibration(self, num_images: int, seed: int) -> NDArray[np.float32]:
        """Up to `num_images` training images in shuffled order, without augmentation: float32 [n, C, S, S]."""
        num_images = min(num_images, self.shards.splits["train"])
        batch = min(CALIBRATION_BATCH, num_images)
        with self._open(PLAIN, seed, batch, -(-num_images // batch)) as batches:
            images = np.concatenate([np.asarray(each.images) for each in batches])
        return images[:num_images]

    def _open(self, augmentation: AugmentConfig, seed: int, batch: int, steps: int) -> Any:
        return open_training_loader(
            self.shards,
            self.context.blobs,
            augmentation=augmentation,
            seed=seed,
            global_batch=batch,
            rank=0,
            world_size=1,
            start_step=0,
            stop_step=steps,
            **self._common,
        )
