"""What a served model must know besides its weights: labels, preprocessing, which file, how calibrated."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from components.common.canonical import canonical_json
from components.common.errors import InputError, StoreError
from components.common.refs import CompressedRef, Digest


class ModelSpec(BaseModel):
    """Everything that turns image bytes into labels with one ONNX file; travels with every registered version."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True, allow_inf_nan=False
    )

    kind: Literal["model-spec"] = "model-spec"
    version: Literal[1] = 1
    name: str
    """The candidate's name, such as `int8-pruned-50`."""
    model: Digest
    """Blob of the ONNX file."""
    size_bytes: Annotated[int, Field(gt=0)]
    classes: Annotated[tuple[str, ...], Field(min_length=2)]
    """Class names; the model's output k is about class k."""
    image_size: Annotated[int, Field(gt=0)]
    """Side in pixels of the square that the model sees."""
    stored_size: Annotated[int, Field(gt=0)]
    """Shorter side in pixels that an image is resized to before the square is cut from its middle."""
    channels: Literal[1, 3]
    mean: tuple[float, ...]
    """Per channel, in [0, 1]: subtracted from an image's values."""
    std: tuple[float, ...]
    temperature: Annotated[float, Field(gt=0)] = 1.0
    """Logits are divided by it before the softmax. It never changes a label."""

    @model_validator(mode="after")
    def _consistent(self) -> "ModelSpec":
        if len(self.mean) != self.channels or len(self.std) != self.channels:
            raise ValueError("mean and std need one value per channel")
        if any(value <= 0 for value in self.std):
            raise ValueError("std must be above 0")
        if self.stored_size < self.image_size:
            raise ValueError("stored_size must not be below image_size")
        return self

    @classmethod
    def from_compressed(
        cls, ref: CompressedRef, *, name: str | None = None, temperature: float = 1.0
    ) -> "ModelSpec":
        """The spec of one candidate, the chosen one where no `name` is given. Raises `InputError` for no such name."""
        wanted = name or ref.chosen
        candidate = next((c for c in ref.candidates if c.name == wanted), None)
        if candidate is None:
            raise InputError(
                "there is no such compressed model",
                expected=f"one of {', '.join(c.name for c in ref.candidates)}",
                found=wanted,
            )
        return cls(
            name=candidate.name,
            model=candidate.model,
            size_bytes=candidate.size_bytes,
            classes=ref.classes,
            image_size=ref.image_size,
            stored_size=ref.stored_size,
            channels=ref.channels,
            mean=ref.mean,
            std=ref.std,
            temperature=temperature,
        )

    @classmethod
    def from_json(cls, data: bytes, *, where: str) -> "ModelSpec":
        """Read a stored spec. Raises `StoreError` that names `where`."""
        try:
            return cls.model_validate_json(data)
        except ValidationError as error:
            first = error.errors()[0]
            raise StoreError(
                "this is not a model spec that this version of Conveyor knows",
                where=where,
                expected=f"{'.'.join(map(str, first['loc']))}: {first['msg']}",
                todo="it may have been written by another release of Conveyor",
            ) from error

    def to_json(self) -> bytes:
        return canonical_json(self.model_dump(mode="json"))
