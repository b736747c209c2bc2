"""Typed references: the small JSON documents that travel between steps while the bytes stay in the store.

A reference names a *tree* (see `blobs.py`) by digest and carries the few facts that the next step, the report and a
person need. Nothing in a reference depends on the clock, the host or a path.
"""

from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
)

from components.common.canonical import Json, canonical_json, digest_bytes
from components.common.errors import StoreError

Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")


class Ref(BaseModel):
    """What all references have in common."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True)

    kind: str
    version: int = 1
    """Layout of the document; a reader refuses one that it does not know."""
    tree: Digest
    """The blob that lists everything the result consists of."""

    KNOWN_VERSIONS: ClassVar[frozenset[int]] = frozenset({1})

    def digest(self) -> str:
        """Digest of the whole reference: two equal results have equal digests."""
        return digest_bytes(self.to_json())

    def to_json(self) -> bytes:
        return canonical_json(self.to_value())

    def to_value(self) -> dict[str, Any]:
        return self.model_dump(mode="json")


class SnapshotRef(Ref):
    """ingest → preprocess: the accepted images, packed, with their manifest."""

    kind: Literal["snapshot"] = "snapshot"
    dataset: str
    classes: tuple[str, ...]
    """Class names, sorted; a label is an index into it."""
    num_accepted: int
    num_quarantined: int
    num_duplicates: int
    """Exact duplicates that were kept once (not counted as quarantined)."""
    reasons: dict[str, int]
    """Why images were quarantined: reason → count."""
    splits: dict[Split, int]
    """Accepted images per split."""
    channels: Literal[1, 3]
    """1 where every accepted image is grey."""
    median_height: int
    median_width: int


class ShardsRef(Ref):
    """preprocess → train, evaluate, compress: WebDataset shards with their index."""

    kind: Literal["shards"] = "shards"
    snapshot: Digest
    """Tree of the snapshot that the shards were made from."""
    classes: tuple[str, ...]
    image_size: int
    """Side in pixels of the square that a model sees."""
    stored_size: int
    """Shorter side in pixels as stored (larger than `image_size` where crops are cut from it)."""
    channels: Literal[1, 3]
    mean: tuple[float, ...]
    """Per channel, of the training split, in [0, 1]."""
    std: tuple[float, ...]
    splits: dict[Split, int]
    class_counts: tuple[int, ...]
    """Training images per class."""
    class_weights: tuple[float, ...]
    """Inverse frequency, mean 1 over the training split."""


class ModelRef(Ref):
    """train → evaluate, compress: weights and how to rebuild the model around them."""

    kind: Literal["model"] = "model"
    shards: Digest
    """Tree of the shards that it was trained on."""
    architecture: str
    weights: Digest
    """Blob of the safetensors file."""
    classes: tuple[str, ...]
    image_size: int
    stored_size: int
    channels: Literal[1, 3]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    epochs: int
    num_parameters: int
    val_accuracy: float


class EvaluationRef(Ref):
    """evaluate → promote, report: metrics of one model on one split."""

    kind: Literal["evaluation"] = "evaluation"
    model: Digest
    """Tree of the model."""
    split: Split
    num_samples: int
    metrics: dict[str, float]
    """accuracy, accuracy_low, accuracy_high (95 %: bootstrap; Wilson where that has no width), top5, macro_f1,
    balanced_accuracy, loss, ece; where defined roc_auc, average_precision, temperature."""


class Candidate(BaseModel):
    """One compressed model. Latency is a measurement and lives in the measurements record."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True)

    name: str
    model: Digest
    """Blob of the ONNX file."""
    precision: Literal["fp32", "int8"]
    pruned: float
    """Share of the channels removed."""
    size_bytes: int
    num_parameters: int
    accuracy_validation: float
    accuracy: float
    """On the test split: for the report only, never for the choice."""


class CompressedRef(Ref):
    """compress → promote: the candidates and the chosen one."""

    kind: Literal["compressed"] = "compressed"
    source: Digest
    """Tree of the uncompressed model."""
    candidates: tuple[Candidate, ...]
    chosen: str
    """Name of the chosen candidate."""
    classes: tuple[str, ...]
    image_size: int
    stored_size: int
    channels: Literal[1, 3]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def chosen_candidate(self) -> Candidate:
        return next(c for c in self.candidates if c.name == self.chosen)


class PromotionRef(Ref):
    """promote → the outside: what was decided and why."""

    kind: Literal["promotion"] = "promotion"
    registry: str
    """Name of the registered model."""
    promoted: bool
    model_version: int
    """The challenger's version number in the registry (it has one also when refused)."""
    model: Digest
    """Blob of the challenger's ONNX file."""
    champion_before: int | None
    gates: dict[str, bool]
    """Gate → passed."""
    reason: str
    """One sentence for a person."""
    awaiting_approval: bool = False
    """It passed every gate, and a person has the last word."""

    @model_serializer(mode="wrap")
    def _as_before(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Left out where it is not so: a decision from before there were approvals keeps its digest.
        value: dict[str, Any] = handler(self)
        if not self.awaiting_approval:
            value.pop("awaiting_approval", None)
        return value


RefT = TypeVar("RefT", bound=Ref)

REF_TYPES: dict[str, type[Ref]] = {
    "snapshot": SnapshotRef,
    "shards": ShardsRef,
    "model": ModelRef,
    "evaluation": EvaluationRef,
    "compressed": CompressedRef,
    "promotion": PromotionRef,
}


def parse_ref(value: Json, *, where: str) -> Ref:
    """Rebuild a reference of any known kind. Raises `StoreError` that names `where` for anything else."""
    kind = value.get("kind") if isinstance(value, dict) else None
    if not isinstance(value, dict) or not isinstance(kind, str) or kind not in REF_TYPES:
        raise StoreError(
            "this is not a reference that this version of Conveyor knows",
            where=where,
            expected=f"a JSON object whose kind is one of {', '.join(REF_TYPES)}",
            found=f"kind {kind!r}",
        )
    ref_type = REF_TYPES[kind]
    version = value.get("version")
    if not isinstance(version, int) or version not in ref_type.KNOWN_VERSIONS:
        raise StoreError(
            f"a {kind} reference of an unknown version",
            where=where,
            expected=f"version {' or '.join(map(str, sorted(ref_type.KNOWN_VERSIONS)))}",
            found=f"version {version!r}",
            todo="it was written by another release of Conveyor: upgrade this one",
        )
    try:
        # From JSON text, since in strict mode lists become tuples only there.
        return ref_type.model_validate_json(canonical_json(value))
    except ValidationError as error:
        raise StoreError(f"a damaged {kind} reference", where=where, found=str(error.errors()[0])) from error
