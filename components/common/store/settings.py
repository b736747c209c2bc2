"""How to reach an object store; credentials are never among the settings."""

from pydantic import BaseModel, ConfigDict


class StoreSettings(BaseModel):
    """Settings of an S3 store; a file store needs none."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True)

    endpoint: str | None = None
    """URL of the S3 server; None is AWS."""
