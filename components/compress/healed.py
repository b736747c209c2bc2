"""Healed networks kept in the store until the step ends: a killed step does not heal them again."""

import json

import torch
from torch import nn

from components.common.canonical import Json, canonical_json
from components.common.errors import ConveyorError
from components.common.step import StepContext
from components.common.store.base import NotFoundError
from components.common.trees import Tree
from components.models.weights import WEIGHTS, decode_weights, encode_weights


def keep(student: nn.Module, ratio: float, context: StepContext) -> None:
    """Write the weights, and last the pointer that `conveyor gc` treats as any checkpoint's."""
    tree = Tree.write(context.blobs, {WEIGHTS: context.blobs.put(encode_weights(student.state_dict()))})
    pointer: Json = {"kind": "checkpoint", "version": 1, "step": _step(ratio), "tree": tree}
    context.store.put(_name(ratio, context), canonical_json(pointer))


def restore(student: nn.Module, ratio: float, context: StepContext) -> bool:
    """Give the freshly pruned `student` the healed weights, to the bit; False where there are none that are whole."""
    name = _name(ratio, context)
    try:
        data, _ = context.store.read(name)
    except NotFoundError:
        return False
    try:
        tree = Tree.read(context.blobs, str(json.loads(data)["tree"]))
        weights = decode_weights(context.blobs.read(tree[WEIGHTS].digest), where=name)
        student.load_state_dict(weights)
    except (ConveyorError, ValueError, KeyError, TypeError, RuntimeError) as error:
        context.reporter.warning(
            "compress: a healed network that was kept is damaged; healing again", found=str(error)
        )
        return False
    student.eval()
    return all(bool(torch.isfinite(value).all()) for value in weights.values())


def forget(ratios: tuple[float, ...], context: StepContext) -> None:
    """Remove the pointers; the blobs go with the next `conveyor gc`."""
    for ratio in ratios:
        context.store.delete(_name(ratio, context))


def _step(ratio: float) -> int:
    return round(ratio * 1_000_000)


def _name(ratio: float, context: StepContext) -> str:
    return f"checkpoints/{context.key}/{_step(ratio):08d}.json"
