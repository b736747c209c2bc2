"""Where a version comes from: references, settings, code, seeds; nothing of it depends on the clock or the host."""

import json
from typing import Any

from components.common.blobs import Blobs
from components.common.canonical import digest_json
from components.common.code import code_version
from components.common.errors import StoreError
from components.common.refs import CompressedRef, EvaluationRef, ModelRef, Ref, ShardsRef, SnapshotRef
from components.common.trees import Tree

STEPS = ("ingest", "preprocess", "train", "evaluate", "compress", "promote")


def challenger_digest(*references: Ref) -> str:
    """Names a challenger: the same references are the same challenger."""
    return digest_json({reference.kind: reference.digest() for reference in references})


def lineage(
    snapshot: SnapshotRef,
    shards: ShardsRef,
    model: ModelRef,
    evaluation: EvaluationRef,
    compressed: CompressedRef,
    blobs: Blobs,
) -> dict[str, Any]:
    """References by kind (digest of the tree), the training's settings and seed, the tree of the model whose weights it
    started from (null: from scratch), the code version of every step."""
    trained = _how_trained(model, blobs)
    settings = _settings(trained)
    return {
        "references": {ref.kind: ref.tree for ref in (snapshot, shards, model, evaluation, compressed)},
        "weights": model.weights,
        "warm_start": trained.get("warm_start"),
        "data": {
            "dataset": snapshot.dataset,
            "num_accepted": snapshot.num_accepted,
            "num_quarantined": snapshot.num_quarantined,
            "num_duplicates": snapshot.num_duplicates,
            "splits": dict(snapshot.splits),
            "class_counts": dict(zip(shards.classes, shards.class_counts, strict=True)),
        },
        "network": {
            "architecture": model.architecture,
            "num_parameters": model.num_parameters,
            "epochs": model.epochs,
        },
        "training": settings,
        "seed": _seed(settings),
        "code": {step: code_version(f"components.{step}") for step in STEPS},
    }


def _how_trained(model: ModelRef, blobs: Blobs) -> dict[str, Any]:
    """The document that training kept with the model; empty where it kept none."""
    tree = Tree.read(blobs, model.tree)
    if "config.json" not in tree:
        return {}
    try:
        value = json.loads(blobs.read(tree["config.json"].digest))
    except ValueError as error:
        raise StoreError(
            "the training settings kept with the model are not JSON", where=f"model {model.tree}"
        ) from error
    return value if isinstance(value, dict) else {}


def _settings(trained: dict[str, Any]) -> dict[str, Any]:
    resolved = trained.get("resolved", trained)
    return resolved if isinstance(resolved, dict) else {}


def _seed(settings: dict[str, Any]) -> Any:
    recipe = settings.get("recipe", settings)
    return recipe.get("seed") if isinstance(recipe, dict) else None
