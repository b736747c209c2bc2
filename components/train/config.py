"""Settings of training. What is left unset is chosen from the data by `resolve.py`, and printed."""

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from components.common.config import NotInKey, StepConfig
from components.common.errors import InputError
from components.data.augment import AugmentConfig
from components.data.cache import CacheConfig
from components.models.names import check_name


class EarlyStoppingConfig(StepConfig):
    """Ending before the last epoch when the validation accuracy no longer rises."""

    patience: int | None = Field(default=None, ge=1)
    """Epochs without a better validation accuracy before training ends; null never ends early."""
    min_delta: float = Field(default=0.0, ge=0.0, lt=1.0)
    """How much better counts as better, as a share (0.001 is 0.1 points)."""


class CheckpointConfig(StepConfig):
    """How often the state of the training is kept, so that a killed one goes on. Never changes the result."""

    interval_s: float = Field(default=15.0, ge=0.0)
    """Seconds between two checkpoints; 0 makes one after every step that the store keeps up with."""
    interval_steps: int | None = Field(default=None, ge=1)
    """Steps between two checkpoints, instead of seconds."""
    keep: int = Field(default=2, ge=1)
    """How many are kept; the older one serves where the newest is damaged."""


class TrainConfig(StepConfig):
    """Training: the network, how it learns, and on how many processes."""

    model: str | None = None
    """`lenet`, `resnet18`, `resnet34`, `resnet50`, or any classification network of torchvision. Unset: `lenet` up to
    64 pixels (`resnet18` from 20,000 images on where there is a GPU), else `resnet18`."""
    epochs: int | None = Field(default=None, ge=1)
    """Passes over the training images. Unset: 60 for up to 700 images, falling to 10 for large sets."""
    batch_size: int | None = Field(default=None, ge=2)
    """Images in a step, over all workers together. Unset: about a twentieth of the images, 32 to 128 (GPU: to 256)."""
    optimizer: Literal["sgd", "adamw"] = "sgd"
    """SGD with Nesterov momentum, or AdamW."""
    learning_rate: float | None = Field(default=None, gt=0.0)
    """At its peak. Unset: 0.1 for sgd and 0.002 for adamw at 64 images in a batch, in proportion."""
    momentum: float = Field(default=0.9, ge=0.0, lt=1.0)
    """Of sgd."""
    weight_decay: float | None = Field(default=None, ge=0.0)
    """Pull of weights (not of biases and norms) towards zero. Unset: 0.0005 for sgd, 0.05 for adamw."""
    schedule: Literal["cosine"] = "cosine"
    """How the learning rate falls after the warm-up."""
    warmup_epochs: float | None = Field(default=None, ge=0.0)
    """Epochs of linear rise from zero. Unset: a twentieth of all, at most 5."""
    label_smoothing: float = Field(default=0.1, ge=0.0, lt=1.0)
    """Share of the target that is spread evenly over all classes."""
    class_weighting: Literal["none", "balanced"] | None = None
    """`balanced` weighs each image by the inverse frequency of its class. Unset: `balanced` where the largest class has
    more than five times the images of the smallest."""
    ema_decay: float | None = Field(default=0.99, gt=0.0, lt=1.0)
    """Memory of the moving average of the weights, which is what is validated and kept; null keeps the raw weights."""
    keep: Literal["last", "best"] | None = None
    """Which weights are the result: those after the last step, or those of the epoch with the best validation accuracy
    (the earliest, where epochs tie). Unset: `best` with early stopping, else `last`."""
    early_stopping: EarlyStoppingConfig = Field(default_factory=EarlyStoppingConfig)
    gradient_clip: float | None = Field(default=None, gt=0.0)
    """Largest L2 norm of the whole gradient; null never clips."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    """Of the initial weights, the order of the samples and their augmentation, dropout."""
    augment: AugmentConfig = Field(default_factory=AugmentConfig)

    # Below: how it is done. What of it changes the numbers enters the key as it was resolved (`depends_on`).
    workers: Annotated[int | None, NotInKey] = Field(default=None, ge=1, le=1024)
    """Processes that train together. Unset: one a GPU; on CPUs 2 where there are 2 cores and data worth it, else 1."""
    engine: Annotated[Literal["auto", "horovod", "ddp", "inline"], NotInKey] = "auto"
    """What joins them. `auto`: none (`inline`) for one worker, else Horovod where it is installed, else torch's DDP."""
    device: Annotated[Literal["auto", "cpu", "cuda"], NotInKey] = "auto"
    """Where the network runs; `auto` takes the GPUs where there are some."""
    backend: Annotated[Literal["auto", "dali", "dali-gpu", "torchvision"], NotInKey] = "auto"
    """What decodes and augments; `auto` is DALI where it is installed."""
    threads: Annotated[int | None, NotInKey] = Field(default=None, ge=1, le=256)
    """Threads of one worker, pinned since sums depend on them. Unset: the cores shared out among the workers, at
    most 8; one for a lenet."""
    amp: bool = False
    """Automatic mixed precision (bfloat16), on GPUs only."""
    checkpoint: Annotated[CheckpointConfig, NotInKey] = Field(default_factory=CheckpointConfig)
    cache: Annotated[CacheConfig, NotInKey] = Field(default_factory=CacheConfig)
    max_restarts: Annotated[int, NotInKey] = Field(default=2, ge=0)
    """How often the workers are started anew, from the newest checkpoint, after one of them died. Across pods: for each
    pod, in a row, without a checkpoint between."""
    tensorboard: Annotated[bool, NotInKey] = True
    """Write scalars for TensorBoard into the store, below `tensorboard/<key>/`."""

    @field_validator("model")
    @classmethod
    def _known_model(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                check_name(value)
            except InputError as error:
                raise ValueError(f"{error.expected} ({error.todo})") from None
        return value

    @model_validator(mode="after")
    def _possible(self) -> "TrainConfig":
        if self.engine == "inline" and self.workers not in (None, 1):
            raise ValueError("engine: inline trains in one process; set workers: 1, or another engine")
        if self.device == "cpu" and self.backend == "dali-gpu":
            raise ValueError("backend: dali-gpu decodes on a GPU; set device: cuda, or backend: dali")
        if self.device == "cpu" and self.amp:
            raise ValueError("amp: mixed precision works on GPUs only; set amp: false, or device: cuda")
        if self.epochs is not None and self.warmup_epochs is not None and self.warmup_epochs >= self.epochs:
            raise ValueError("warmup_epochs: fewer than epochs, so that training goes on after the warm-up")
        if self.batch_size is not None and self.workers is not None and self.batch_size < 2 * self.workers:
            raise ValueError("batch_size: at least two images for each worker, as batch norm needs")
        if self.keep == "last" and self.early_stopping.patience is not None:
            raise ValueError("keep: with early stopping the best weights are kept; unset it, or set best")
        return self
