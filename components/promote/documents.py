"""The registry's JSON documents, typed and versioned."""

from typing import Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from components.common.canonical import canonical_json
from components.common.errors import StoreError
from components.common.refs import Digest
from components.models.spec import ModelSpec

Action = Literal["promote", "approve", "force", "rollback"]
"""A pipeline's gates said yes; a person did as well; a person alone did; a person went back."""


class Document(BaseModel):
    """What all of them share. They may hold times: nothing of them is content-addressed."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True)

    KIND: ClassVar[str]

    @classmethod
    def from_json(cls, data: bytes, *, where: str) -> Self:
        """Raises `StoreError` that names `where` for anything else."""
        try:
            return cls.model_validate_json(data)
        except ValidationError as error:
            first = error.errors()[0]
            raise StoreError(
                f"this is not a {cls.KIND} document that this version of Conveyor knows",
                where=where,
                expected=f"{'.'.join(map(str, first['loc']))}: {first['msg']}",
                todo="it may have been written by another release of Conveyor",
            ) from error

    def to_json(self) -> bytes:
        return canonical_json(self.model_dump(mode="json"))


class Version(Document):
    """`version.json`: claims a number for a challenger, and says what it is and where it comes from."""

    KIND = "model version"

    kind: Literal["model-version"] = "model-version"
    version: Literal[1] = 1
    registry: str
    number: int = Field(ge=1)
    challenger: Digest
    """Digest of the references that it was made from: the same challenger keeps its number."""
    created: str
    """When the number was claimed, UTC, ISO 8601."""
    spec: ModelSpec
    metrics: dict[str, float]
    """Of the chosen model on the test split (`accuracy`, `accuracy_validation`) and of the uncompressed network
    (`original_…`)."""
    num_test: int
    lineage: dict[str, Any]
    """References, training settings, code version of each step, seeds."""


class GateReport(BaseModel):
    """One gate's answer."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True)

    name: str
    passed: bool
    detail: str
    """One sentence with the numbers; never a clock's."""
    numbers: dict[str, float | int | str | None] = Field(default_factory=dict)
    measured: dict[str, float] = Field(default_factory=dict)
    """What clocks said: stays out of everything that is content-addressed."""


class Decision(Document):
    """`decision.json`: what the gates said last about a version, and against which champion."""

    KIND = "decision"

    kind: Literal["decision"] = "decision"
    version: Literal[1] = 1
    number: int
    promoted: bool
    awaiting_approval: bool = False
    """It passed every gate, and a person has the last word."""
    reason: str
    champion_before: int | None
    gates: tuple[GateReport, ...]
    decided: str
    """UTC, ISO 8601."""


class Move(BaseModel):
    """One step of the champion pointer."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True)

    action: Action
    before: int | None
    """The champion until then."""
    before_model: Digest | None
    after: int
    after_model: Digest
    """Blob of the ONNX file: the same model under another number is still the same."""
    at: str
    """UTC, ISO 8601."""
    reason: str
    output: dict[str, Any] | None = None
    """The promotion's result (as JSON): whoever is killed after the move finds here what it was about to publish."""
    settings: Digest | None = None
    """Digest of the gates' settings that it passed."""


class Champion(Document):
    """`champion.json`: which version serves, and how it came to that; replaced whole by compare-and-swap."""

    KIND = "champion"

    kind: Literal["champion"] = "champion"
    version: Literal[1] = 1
    champion: int | None = None
    moves: tuple[Move, ...] = ()
    """Oldest first."""

    def model(self) -> str | None:
        """Blob of the champion's ONNX file."""
        return self.moves[-1].after_model if self.moves else None

    def rolled_back(self, model: str) -> bool:
        """Whether the last word about this ONNX file was a rollback away from it."""
        for move in reversed(self.moves):
            if move.after_model == model:
                return False
            if move.action == "rollback" and move.before_model == model:
                return True
        return False

    def promotion_of(self, number: int) -> Move | None:
        """The newest move by which a pipeline promoted this version."""
        moves = (m for m in reversed(self.moves) if m.after == number and m.action == "promote")
        return next(moves, None)

    def previous(self) -> Move | None:
        """The move that made the champion to go back to: the newest other one whose model was not rolled back."""
        for move in reversed(self.moves):
            if move.after_model != self.model() and not self.rolled_back(move.after_model):
                return move
        return None

    def with_move(self, move: Move) -> "Champion":
        return Champion(champion=move.after, moves=(*self.moves, move))
