"""Settings of the webhook that hears how runs end. Its URL is a secret and stands in the environment only."""

from typing import Annotated, Literal

from pydantic import Field

from components.common.config import StepConfig

Event = Literal["failed", "refused", "promoted", "awaiting_approval"]
EVENTS: tuple[Event, ...] = ("failed", "refused", "promoted", "awaiting_approval")


class NotifyConfig(StepConfig):
    """The webhook: CONVEYOR_WEBHOOK_URL (unset: nobody is told), CONVEYOR_WEBHOOK_SECRET (signs what is sent)."""

    events: tuple[Event, ...] = EVENTS
    """What is told: a run `failed`, the gates `refused` a model, a model was `promoted`, or is `awaiting_approval`."""
    format: Literal["json", "slack"] = "json"
    """`json`: a document with run, model, metrics, report and a sentence in `text`; `slack`: only `text`."""
    timeout_s: Annotated[float, Field(gt=0, le=120)] = 10.0
    """Seconds that one try may take."""
    deadline_s: Annotated[float, Field(gt=0, le=600)] = 60.0
    """Seconds that all tries together may take; then the run ends with a warning."""
