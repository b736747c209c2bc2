"""Scalars for TensorBoard, kept in the store: `tensorboard --logdir STORE/tensorboard` shows all trainings.

Event files hold clocks and host names, so they stand beside what is content-addressed, under the training's key.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from components.common.errors import ConveyorError
from components.common.store.base import Store

UPLOAD_INTERVAL_S = 20.0
NAMES = {
    "loss": "running/loss",
    "accuracy": "running/accuracy",
    "learning_rate": "learning_rate",
    "train_loss": "train/loss",
    "train_accuracy": "train/accuracy",
    "val_loss": "validation/loss",
    "val_accuracy": "validation/accuracy",
}


class Scalars:
    """Written to a local folder and copied to the store now and then; a failure to do so never ends a training."""

    def __init__(self, writer: Any, store: Store, key: str, folder: Path) -> None:
        self._writer, self._store, self._key, self._folder = writer, store, key, folder
        self._uploaded = time.monotonic()

    @staticmethod
    @contextmanager
    def opened(
        store: Store, key: str, scratch: Path, start_step: int, *, enabled: bool
    ) -> "Iterator[Scalars]":
        """`start_step` hides what a killed try had written beyond it."""
        folder = scratch / "tensorboard"
        scalars = Scalars(_make_writer(folder, start_step) if enabled else None, store, key, folder)
        try:
            yield scalars
        finally:
            scalars.close()

    def add(self, values: dict[str, float]) -> None:
        if self._writer is None:
            return
        for name, tag in NAMES.items():
            if name in values:
                self._writer.add_scalar(tag, values[name], int(values["step"]))
        if time.monotonic() - self._uploaded >= UPLOAD_INTERVAL_S:
            self._writer.flush()
            self._upload()

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._upload()

    def _upload(self) -> None:
        self._uploaded = time.monotonic()
        for path in self._folder.glob("events.*"):
            try:
                self._store.put(f"tensorboard/{self._key[:16]}/{path.name}", path)
            except (ConveyorError, OSError):
                # The charts may be late or missing; the model must not be.
                continue


def _make_writer(folder: Path, start_step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder), purge_step=start_step or None)
