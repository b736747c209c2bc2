"""Settings of the dummy step."""

from typing import Annotated, Literal

from pydantic import Field

from components.common.config import NotInKey, StepConfig


class DummyConfig(StepConfig):
    """A step that only greets."""

    greeting: str = "hello"
    """What it says."""
    times: Annotated[int, Field(ge=1, le=9)] = 1
    """How often it says so."""
    behaviour: Annotated[Literal["work", "input_error", "bug", "disk_full", "wait"], NotInKey] = "work"
    """What the test wants to see."""
