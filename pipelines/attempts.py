"""`retraining/<registry>.json`: the last attempt at a better model, which the next one is compared with.

Replaced whole by compare-and-swap: first when an attempt begins, so that every try of it starts from the same weights,
then when it has ended.
"""

from collections.abc import Iterator
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from components.common.canonical import canonical_json, digest_json
from components.common.code import code_version
from components.common.errors import StoreError
from components.common.machine import package_version
from components.common.refs import Digest, ModelRef, SnapshotRef
from components.common.sections import RootBase
from components.common.store import Store
from components.common.store.base import NotFoundError
from components.data.builds import library_versions
from pipelines.graph import Graph

ROOT = "retraining/"
LIBRARIES = ("simplejpeg", "pillow", "onnx", "onnxruntime", "onnxscript", "torch-pruning")

AttemptState = Literal["running", "failed", "promoted", "refused", "awaiting_approval"]
ENDED: frozenset[AttemptState] = frozenset({"promoted", "refused", "awaiting_approval"})


class Basis(BaseModel):
    """What a model follows from, but for the weights that training starts with."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True)

    snapshot: Digest
    """Of the reference."""
    settings: dict[str, Digest]
    """Step → what of its settings changes results."""
    code: dict[str, Digest]
    """Step → code version."""
    libraries: dict[str, str | None]
    """Those whose build changes results."""

    def digest(self) -> str:
        return digest_json(self.model_dump(mode="json"))

    def changes_since(self, before: "Basis") -> list[str]:
        """What is different, in words."""
        found = ["the data"] if self.snapshot != before.snapshot else []
        for what, new, old in (
            ("settings of", self.settings, before.settings),
            ("code of", self.code, before.code),
            ("build of", self.libraries, before.libraries),
        ):
            names = [name for name in sorted({*new, *old}) if new.get(name) != old.get(name)]
            found += [f"{what} {', '.join(names)}"] if names else []
        return found


class Start(BaseModel):
    """The model whose weights training starts with: the champion of that time."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True)

    version: int
    """Its number in the registry."""
    model: dict[str, Any]
    """The `ModelRef`, as JSON."""

    def ref(self) -> ModelRef:
        return ModelRef.model_validate_json(canonical_json(self.model))


class Attempt(BaseModel):
    """One attempt, running or ended."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True)

    state: AttemptState
    basis: Basis
    run: str
    """Name of the run."""
    start: Start | None
    """None: from scratch, since there was no champion to start from."""
    champion: int | None
    """The champion when it began."""
    model: Digest | None = None
    """Tree of what it trained, once that is known."""
    records: dict[str, str] = Field(default_factory=dict)
    """Step → key of its record: `conveyor gc` leaves them."""
    model_version: int | None = None
    """The challenger's number in the registry."""
    reason: str | None = None
    """Why it ended as it did."""
    began: str
    """UTC, ISO 8601."""
    ended: str | None = None

    @property
    def has_ended(self) -> bool:
        return self.state in ENDED


class Retraining(BaseModel):
    """The whole document."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True)

    kind: Literal["retraining"] = "retraining"
    version: Literal[1] = 1
    attempt: Attempt | None = None
    checks: int = 0
    """How often nothing had changed since the attempt."""
    checked: str | None = None
    """When that was seen last, UTC, ISO 8601."""


def basis_of(graph: Graph, config: RootBase, snapshot: SnapshotRef) -> Basis:
    """What a run with these settings on this snapshot follows from, on this machine's libraries."""
    builds: dict[str, str | None] = {name: package_version(name) for name in ("torch", "torchvision")}
    return Basis(
        snapshot=snapshot.digest(),
        settings={step.name: digest_json(config.section(step.name).key_fields()) for step in graph},
        code={step.name: code_version(step.package) for step in graph},
        libraries=builds | dict(library_versions("dali", *LIBRARIES)),
    )


def read_retraining(store: Store, registry: str) -> tuple[Retraining, str | None]:
    """The document and its version tag (None where there is none yet). Raises `StoreError` for a damaged one."""
    name = _name(registry)
    try:
        data, tag = store.read(name)
    except NotFoundError:
        return Retraining(), None
    return _parse(data, f"{store.url}/{name}"), tag


def swap_retraining(store: Store, registry: str, document: Retraining, tag: str | None) -> bool:
    """Replace the document that `read_retraining` gave; False where somebody else did meanwhile."""
    return store.swap(_name(registry), canonical_json(document.model_dump(mode="json")), tag=tag)


def all_retrainings(store: Store) -> Iterator[tuple[str, Retraining]]:
    """Name of the object and document, for each registered model that was retrained."""
    for info in store.list(ROOT):
        try:
            data, _ = store.read(info.key)
        except NotFoundError:
            continue
        yield info.key, _parse(data, f"{store.url}/{info.key}")


def _parse(data: bytes, where: str) -> Retraining:
    try:
        return Retraining.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        raise StoreError(
            "this is not a retraining document that this version of Conveyor knows",
            where=where,
            expected=f"{'.'.join(map(str, first['loc']))}: {first['msg']}",
            todo="remove it: the next 'conveyor retrain' then trains once more than needed; nothing else is lost",
        ) from error


def _name(registry: str) -> str:
    return f"{ROOT}{registry}.json"
