"""SGD and AdamW on flat tensors.

The rules are torch.optim's (a test compares them step by step). They stand here because the whole state is then one or
two tensors that a checkpoint takes as they are, a step is a handful of calls however many layers there are, and
building a torch optimizer imports the compiler stack, a second for every worker.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor


class Optimizer(ABC):
    """Updates flat parameters [P] in place; weight decay touches the first `num_decayed` of them."""

    state: dict[str, Tensor]
    """Name → tensor [P]: what a checkpoint keeps."""

    @abstractmethod
    def step(self, parameters: Tensor, gradients: Tensor, *, rate: float, step: int) -> None:
        """One update; `gradients` may be overwritten. `step` counts from 0."""


class Sgd(Optimizer):
    """Stochastic gradient descent with Nesterov momentum and L2 decay (Sutskever et al. 2013)."""

    def __init__(self, parameters: Tensor, *, num_decayed: int, momentum: float, weight_decay: float) -> None:
        self.momentum, self.weight_decay, self.num_decayed = momentum, weight_decay, num_decayed
        self.state = {"momentum": torch.zeros_like(parameters)} if momentum else {}

    def step(self, parameters: Tensor, gradients: Tensor, *, rate: float, step: int) -> None:
        decayed = slice(0, self.num_decayed)
        gradients[decayed].add_(parameters[decayed], alpha=self.weight_decay)
        if self.momentum:
            velocity = self.state["momentum"]
            velocity.mul_(self.momentum).add_(gradients)
            gradients.add_(velocity, alpha=self.momentum)
        parameters.add_(gradients, alpha=-rate)


class AdamW(Optimizer):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019)."""

    def __init__(
        self,
        parameters: Tensor,
        *,
        num_decayed: int,
        weight_decay: float,
        betas: tuple[float, float] = (0.9, 0.999),
        epsilon: float = 1e-8,
    ) -> None:
        self.betas, self.epsilon = betas, epsilon
        self.weight_decay, self.num_decayed = weight_decay, num_decayed
        self.state = {"mean": torch.zeros_like(parameters), "square": torch.zeros_like(parameters)}

    def step(self, parameters: Tensor, gradients: Tensor, *, rate: float, step: int) -> None:
        mean, square = self.state["mean"], self.state["square"]
        first, second = self.betas
        parameters[: self.num_decayed].mul_(1 - rate * self.weight_decay)
        mean.lerp_(gradients, 1 - first)
        square.mul_(second).addcmul_(gradients, gradients, value=1 - second)
        correction = (1 - second ** (step + 1)) ** 0.5
        denominator = (square.sqrt() / correction).add_(self.epsilon)
        parameters.addcdiv_(mean, denominator, value=-rate / (1 - first ** (step + 1)))


def make_optimizer(
    name: str, parameters: Tensor, *, num_decayed: int, momentum: float, weight_decay: float
) -> Optimizer:
    if name == "adamw":
        return AdamW(parameters, num_decayed=num_decayed, weight_decay=weight_decay)
    return Sgd(parameters, num_decayed=num_decayed, momentum=momentum, weight_decay=weight_decay)
