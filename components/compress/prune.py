"""Structured pruning: whole channels go, so that the network is smaller for every runtime."""

import copy
import warnings
from typing import Any

import torch
from torch import nn

# Vector units and ONNX Runtime's blocked convolutions work on groups of channels; narrow networks cannot afford it.
ROUND_TO = ((32, 8), (16, 4))


def prune(model: nn.Module, ratio: float, example: torch.Tensor) -> nn.Module:
    """A copy of `model` without the share `ratio` of each layer's channels; `model` stays as it is.

    Channels that depend on each other (residual branches, batch norms, the next layer's inputs) go together; the
    least important group is the one with the smallest mean square of its weights, batch-norm scales included. The
    layer that makes the logits keeps its outputs. `example` [n, C, S, S] shows how the data flow. Deterministic.

    Source: Fang et al., "DepGraph: Towards Any Structural Pruning" (CVPR 2023), by torch-pruning.
    """
    import torch_pruning

    pruned = copy.deepcopy(model).eval()
    for parameter in pruned.parameters():
        parameter.requires_grad_(True)
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # it speaks of parameters outside layers; the result is checked by use
        pruner = torch_pruning.pruner.BasePruner(
            pruned,
            example[:1],
            importance=torch_pruning.importance.GroupMagnitudeImportance(p=2),
            pruning_ratio=ratio,
            ignored_layers=[output_layer(pruned, example[:1])],
            round_to=round_to(pruned),
        )
        pruner.step()
    return pruned


def round_to(model: nn.Module) -> int:
    """Channel counts stay multiples of this: 8, or less where the narrowest convolution has few channels."""
    narrowest = min((module.out_channels for module in _convolutions(model)), default=0)
    return next((step for least, step in ROUND_TO if narrowest >= least), 1)


def output_layer(model: nn.Module, example: torch.Tensor) -> nn.Module:
    """The layer with weights that runs last: its outputs are the classes."""
    order: list[nn.Module] = []
    hooks = [
        module.register_forward_hook(lambda module, *_: order.append(module))
        for module in model.modules()
        if isinstance(module, nn.Linear | nn.Conv2d)
    ]
    try:
        with torch.no_grad():
            model(example)
    finally:
        for hook in hooks:
            hook.remove()
    if not order:
        raise ValueError("the network has no linear and no convolutional layer")
    return order[-1]


def num_channels(model: nn.Module) -> int:
    """Output channels of all convolutions together."""
    return sum(module.out_channels for module in _convolutions(model))


def num_parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _convolutions(model: nn.Module) -> list[Any]:
    return [module for module in model.modules() if isinstance(module, nn.Conv2d)]
