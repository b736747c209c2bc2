"""What the launcher hands to the workers, and what they say back: JSON, so that any launcher can start them."""

from typing import Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict

from components.common.refs import Digest, ModelRef, ShardsRef
from components.data.cache import CacheConfig
from components.train.config import CheckpointConfig
from components.train.resolve import ResolvedTrainConfig


class Job(BaseModel):
    """One training, as every rank sees it."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True)

    key: str
    """The record's key: names the checkpoints."""
    shards: ShardsRef
    warm_start: ModelRef | None
    resolved: ResolvedTrainConfig
    config: dict[str, Any]
    """The settings as given, for the model's config.json."""
    checkpoint: CheckpointConfig
    cache: CacheConfig
    tensorboard: bool
    resume: Digest | None
    """Tree of the checkpoint to go on from; every rank takes the same."""


MessageKind = Literal["start", "progress", "epoch", "info", "warning", "error", "done"]


class Emit(Protocol):
    """Where rank 0 (and any failing rank) reports to: a pipe to the launcher, or a call in the same process."""

    def __call__(self, kind: MessageKind, **fields: Any) -> None: ...
