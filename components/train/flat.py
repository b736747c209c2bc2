"""All of a network's numbers in a few contiguous tensors: what reductions, averages and checkpoints work on."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

STATISTICS = 3
"""Sum of losses, of correct answers and of samples, carried behind the gradients in the same reduction."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Where each named tensor lies in a flat one."""

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]

    def describe(self) -> list[list[object]]:
        return [[name, list(shape)] for name, shape in zip(self.names, self.shapes, strict=True)]


class FlatModel:
    """A network whose parameters and float buffers are views of two flat float32 tensors, with a third for gradients.

    `parameters` [P] holds first those that weight decay touches (`num_decayed` numbers: matrices and kernels), then
    biases and norms. `reduced` [P + 3 + F] is what one step sums over the ranks: gradients, statistics, and the float
    buffers (batch norm's running statistics) weighted by the rank's share of the batch. `buffers` [F] are the buffers
    themselves. Integer buffers stay in the network.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        parameters: dict[str, Tensor] = dict(model.named_parameters())
        decayed = {name: value for name, value in parameters.items() if value.ndim > 1}
        ordered = decayed | {name: value for name, value in parameters.items() if value.ndim <= 1}
        buffers = {name: value for name, value in model.named_buffers() if value.is_floating_point()}
        self.integers = {
            name: value for name, value in model.named_buffers() if not value.is_floating_point()
        }
        self.layout = _layout(ordered)
        self.buffer_layout = _layout(buffers)
        self.num_decayed = sum(value.numel() for value in decayed.values())
        self.parameters = _flatten(ordered)
        self.buffers = _flatten(buffers, like=self.parameters)
        size = self.parameters.numel()
        self.reduced = self.parameters.new_zeros(size + STATISTICS + self.buffers.numel())
        self.gradients = self.reduced[:size]
        self.statistics = self.reduced[size : size + STATISTICS]
        self.weighted_buffers = self.reduced[size + STATISTICS :]
        for value, view in zip(ordered.values(), _views(self.parameters, self.layout), strict=True):
            value.data = view
        self._sources = list(zip(ordered.values(), _views(self.gradients, self.layout), strict=True))
        for value, view in zip(buffers.values(), _views(self.buffers, self.buffer_layout), strict=True):
            value.data = view

    def take_gradients(self) -> None:
        """Move what `backward` left in the network into `gradients`.

        Moved, not accumulated in place: adding to zeros would read and write every number twice more.
        """
        for parameter, gradient in self._sources:
            if parameter.grad is None:
                gradient.zero_()
            else:
                gradient.copy_(parameter.grad)
                parameter.grad = None

    def named(self, parameters: Tensor, buffers: Tensor) -> dict[str, Tensor]:
        """A state dict out of flat tensors, in the network's own names; integer buffers are the current ones."""
        named = dict(zip(self.layout.names, _views(parameters, self.layout), strict=True))
        named |= dict(zip(self.buffer_layout.names, _views(buffers, self.buffer_layout), strict=True))
        named |= self.integers
        kept = self.model.state_dict()
        return {name: named[name].detach().clone() for name in kept}


def _layout(tensors: dict[str, Tensor]) -> Layout:
    return Layout(tuple(tensors), tuple(tuple(value.shape) for value in tensors.values()))


def _flatten(tensors: dict[str, Tensor], like: Tensor | None = None) -> Tensor:
    if not tensors:
        return torch.zeros(0) if like is None else like.new_zeros(0)
    return torch.cat([value.detach().reshape(-1).float() for value in tensors.values()])


def _views(flat: Tensor, layout: Layout) -> list[Tensor]:
    views = []
    offset = 0
    for shape in layout.shapes:
        size = 1
        for side in shape:
            size *= side
        views.append(flat[offset : offset + size].view(shape))
        offset += size
    return views
