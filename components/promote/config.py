"""Settings of the promote step."""

from typing import Annotated, Literal

from pydantic import Field

from components.common.config import NotInKey, StepConfig

ClassPolicy = Literal["refuse", "allow_superset", "allow"]


class PromoteConfig(StepConfig):
    """Promote: the gates that a challenger must pass, and where it is registered."""

    registry: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$")] | None = None
    """Name of the registered model (also its name in Triton and KServe); null: the data set's name."""

    min_accuracy: Annotated[float, Field(ge=0, le=1)] | None = None
    """Least accuracy on the test split; null: more than always answering the commonest class would reach."""

    min_class_recall: Annotated[float, Field(ge=0, le=1)] | None = None
    """Least recall of each class with enough test images; null: half of what guessing reaches, 0.5 / classes."""

    min_class_images: Annotated[int, Field(ge=1)] = 5
    """Classes with fewer test images are not judged one by one."""

    margin: Annotated[float, Field(ge=0, lt=1)] | None = None
    """How much accuracy a challenger may lose against the champion: it must be shown with 95 % confidence that it
    loses no more. 0: it must be shown to be better. Null: the largest of one point, six test images and
    0.35 / sqrt(test images); less could not be shown even of an equal model."""

    max_class_drop: Annotated[float, Field(ge=0, le=1)] = 0.05
    """A challenger is refused where it is shown that some class lost more recall than this against the champion."""

    max_latency_ratio: Annotated[float, Field(gt=0)] | None = 1.5
    """Largest latency (batch 1, median, both measured here in turn) against the champion's; null turns it off."""

    max_latency_ms: Annotated[float, Field(gt=0)] | None = None
    """Largest latency (batch 1, median, measured here) in milliseconds; null turns it off."""

    max_size_ratio: Annotated[float, Field(gt=0)] | None = 2.0
    """Largest size of the file against the champion's; null turns it off."""

    max_size_bytes: Annotated[int, Field(gt=0)] | None = None
    """Largest size of the file; null turns it off."""

    class_change: ClassPolicy = "refuse"
    """What to do where the classes are not the champion's: `refuse`; `allow_superset`, new classes may come but none
    may go; `allow` anything. Accuracy is then compared on the images of classes that both know."""

    approval: bool = False
    """Whether a person has the last word: what passes every gate is registered, and becomes the champion only by
    `conveyor models promote VERSION`."""

    threads: Annotated[int, Field(ge=1)] = 2
    """Threads of each model while its latency is measured."""

    num_readers: Annotated[int, NotInKey, Field(ge=1, le=64)] = 8
    """Images that are read from the store at once."""
