"""Trained models in the store: safetensors weights (never unpickled) and a tree that says how to rebuild them."""

from collections.abc import Mapping

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from components.common.blobs import Blobs
from components.common.canonical import Json, canonical_json
from components.common.errors import StoreError
from components.common.refs import ModelRef, ShardsRef
from components.common.trees import Tree

WEIGHTS = "weights.safetensors"


def encode_weights(weights: Mapping[str, Tensor]) -> bytes:
    """Safetensors bytes; equal weights give equal bytes (no metadata, names sorted by the format)."""
    return safetensors.torch.save(
        {name: value.detach().cpu().contiguous() for name, value in weights.items()}
    )


def decode_weights(data: bytes, *, where: str) -> dict[str, Tensor]:
    """Name → tensor. Raises `StoreError` that names `where` for bytes that are not safetensors."""
    try:
        return safetensors.torch.load(data)
    except safetensors.SafetensorError as error:
        raise StoreError("damaged weights", where=where, found=str(error)) from error


def load_weights(ref: ModelRef, blobs: Blobs) -> dict[str, Tensor]:
    return decode_weights(blobs.read(ref.weights), where=f"weights {ref.weights}")


def load_model(ref: ModelRef, blobs: Blobs) -> nn.Module:
    """The trained network on the CPU, in evaluation mode. Raises `StoreError` where weights and network differ."""
    from components.models.architectures import build_model

    weights = load_weights(ref, blobs)
    # The fresh weights are overwritten: building must not disturb the caller's random numbers.
    with torch.random.fork_rng(devices=[]):
        model = build_model(
            ref.architecture, num_classes=len(ref.classes), channels=ref.channels, image_size=ref.image_size
        )
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise StoreError(
            f"the stored weights do not fit the network {ref.architecture}",
            where=f"model {ref.tree}",
            found=str(error).splitlines()[-1].strip(),
            todo="the model was trained by a version whose network differs: train again",
        ) from error
    return model.eval()


def save_model(
    blobs: Blobs,
    weights: Mapping[str, Tensor],
    shards: ShardsRef,
    *,
    architecture: str,
    epochs: int,
    num_parameters: int,
    val_accuracy: float,
    history: Json,
    config: Json,
) -> ModelRef:
    """Write weights, how to rebuild the network, the history per epoch and the settings; return the reference."""
    digest, size = blobs.put(encode_weights(weights))
    fields: dict[str, Json] = {
        "shards": shards.tree,
        "architecture": architecture,
        "weights": digest,
        "classes": shards.classes,
        "image_size": shards.image_size,
        "stored_size": shards.stored_size,
        "channels": shards.channels,
        "mean": shards.mean,
        "std": shards.std,
        "epochs": epochs,
        "num_parameters": num_parameters,
        "val_accuracy": val_accuracy,
    }
    tree = Tree.write(
        blobs,
        {
            WEIGHTS: (digest, size),
            "model.json": blobs.put(canonical_json({"version": 1, **fields})),
            "history.json": blobs.put(canonical_json(history)),
            "config.json": blobs.put(canonical_json(config)),
        },
    )
    return ModelRef.model_validate_json(canonical_json({**fields, "tree": tree}))
