"""Settings of the compress step."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from components.common.config import NotInKey, StepConfig

Ratio = Annotated[float, Field(gt=0, lt=1)]


class PruneConfig(StepConfig):
    """Structured channel pruning, and the training that heals it."""

    ratios: tuple[Ratio, ...] | None = None
    """Shares of the channels to remove, one candidate each; null: 0.5, 0.75 and 0.875 where there are at least 1,000
    validation images to judge them by, else 0.25 and 0.375; heavier ones only while the last one stayed within the
    allowed drop. An empty list turns pruning off."""

    epochs: Annotated[int, Field(ge=0)] | None = None
    """Passes over the training split after each pruning; null: chosen from the length of the training before."""

    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    """Peak rate of AdamW, warmed up and then decayed to zero along a cosine."""

    weight_decay: Annotated[float, Field(ge=0)] = 1e-4
    """Decoupled weight decay of AdamW."""

    batch_size: Annotated[int, Field(ge=1)] | None = None
    """Images per step; null: chosen from the size of the training split."""

    distillation: Annotated[float, Field(ge=0, le=1)] = 0.7
    """Weight of the uncompressed teacher's answers in the loss; the labels have the rest."""

    temperature: Annotated[float, Field(gt=0)] = 2.0
    """Softens teacher and student in the distillation loss."""

    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of the sample order and of the augmentation."""


class QuantizeConfig(StepConfig):
    """Static int8 quantization after training."""

    enabled: bool = True
    """Make an int8 twin of each fp32 candidate."""

    calibration_images: Annotated[int, Field(ge=1)] = 256
    """Training images (without augmentation) whose activations set the ranges."""

    weight_range: Literal["full", "reduced"] = "reduced"
    """`reduced` keeps weights within 7 bits, which no CPU can saturate; `full` is a little more exact and right only
    where the model is served by CPUs with VNNI or AMX."""


class LatencyConfig(StepConfig):
    """How latency is measured."""

    threads: Annotated[int, Field(ge=1)] = 2
    """Threads of each model, the original included."""

    rounds: Annotated[int, Field(ge=1)] = 7
    """Every candidate is measured once in each round, so that a busy minute hits all alike."""

    warmup: Annotated[int, Field(ge=1)] = 3
    """Calls that are not counted, before each block of counted ones."""

    seconds: Annotated[float, Field(gt=0)] | None = None
    """Time for all measuring together; null: 2 to 12 seconds, by the size of the data and of
    the network."""


class CompressConfig(StepConfig):
    """Compress: smaller and faster models, and the choice among them."""

    max_accuracy_drop: Annotated[float, Field(ge=0, le=1)] | None = None
    """How much accuracy on the validation split may be lost (0.005 is half a point); null: the larger of half a
    point and one image."""

    prune: PruneConfig = Field(default_factory=PruneConfig)
    quantize: QuantizeConfig = Field(default_factory=QuantizeConfig)
    latency: LatencyConfig = Field(default_factory=LatencyConfig)

    measurements: Annotated[Path | None, NotInKey] = None
    """A JSON file, candidate name → milliseconds, to choose by instead of measuring (its content is in the key)."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where fine-tuning runs; `auto` takes a GPU that is there."""

    threads: Annotated[int, Field(ge=1)] | None = None
    """CPU threads of fine-tuning; null: one for each CPU that this process may use, at most 8, and a single one for
    networks so small that threads would mostly wait for each other."""

    num_loader_threads: Annotated[int | None, NotInKey] = Field(default=None, ge=1)
    """Threads that decode; null: one for each CPU."""
