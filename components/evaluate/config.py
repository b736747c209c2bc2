"""Settings of the evaluate step."""

from typing import Annotated, Literal

from pydantic import Field

from components.common.config import NotInKey, StepConfig
from components.common.refs import Split


class EvaluateConfig(StepConfig):
    """Evaluate: how good the model is on images that nothing was learnt from or chosen by."""

    split: Split = "test"
    """The split that the figures are of."""

    batch_size: Annotated[int, Field(ge=1)] = 128
    """Images that go through the network at once."""

    bootstrap_resamples: Annotated[int, Field(ge=100, le=100_000)] = 2000
    """Times that the split is drawn again for the 95 % intervals."""

    num_worst: Annotated[int, Field(ge=0, le=200)] = 24
    """Most confident mistakes that the report shows with their pictures."""

    calibrate: bool = True
    """Fit a temperature on the validation split and report what it does to the calibration (a diagnosis only: it
    changes no answer)."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the network runs; `auto` takes a GPU that is there."""

    threads: Annotated[int, Field(ge=1)] | None = None
    """CPU threads of the network; null: one for each CPU that this process may use."""

    num_loader_threads: Annotated[int | None, NotInKey] = Field(default=None, ge=1)
    """Threads that decode; null: one for each CPU."""
