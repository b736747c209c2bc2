from typing import Any

import pytest
import torch
from torch import Tensor, nn

from components.models.architectures import lenet
from components.train.flat import FlatModel
from components.train.optimizers import make_optimizer


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return lenet(4, 1, 8)


def train_step(model: Any, images: Tensor, labels: Tensor) -> None:
    torch.manual_seed(7)  # dropout
    nn.functional.cross_entropy(model(images), labels).backward()


@pytest.fixture
def batch() -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(1)
    return torch.randn(6, 1, 8, 8, generator=random), torch.arange(6) % 4


def test_flattening_changes_nothing_and_loses_nothing(batch: tuple[Tensor, Tensor]) -> None:
    plain, flat = network(), FlatModel(network())
    assert flat.parameters.numel() == sum(value.numel() for value in plain.parameters())
    assert torch.equal(plain.eval()(batch[0]), flat.model.eval()(batch[0]))
    named = flat.named(flat.parameters, flat.buffers)
    assert list(named) == list(plain.state_dict())
    for name, value in plain.state_dict().items():
        assert torch.equal(named[name], value)


def test_gradients_and_running_statistics_land_in_the_flat_tensors(batch: tuple[Tensor, Tensor]) -> None:
    plain, flat = network(), FlatModel(network())
    train_step(plain.train(), *batch)
    train_step(flat.model.train(), *batch)
    assert flat.gradients.eq(0).all()
    flat.take_gradients()
    gradients = flat.named(flat.gradients, flat.buffers)
    for name, value in plain.named_parameters():
        assert value.grad is not None
        assert torch.equal(gradients[name], value.grad)
    for name, buffer in plain.named_buffers():
        assert torch.equal(gradients[name], buffer)
    assert flat.statistics.tolist() == [0, 0, 0]


def test_what_decays_comes_first() -> None:
    flat = FlatModel(network())
    shapes = flat.layout.shapes
    matrices = [shape for shape in shapes if len(shape) > 1]
    assert list(shapes[: len(matrices)]) == matrices
    assert flat.num_decayed == sum(torch.Size(shape).numel() for shape in matrices)


@pytest.mark.parametrize(
    ("name", "options", "theirs"),
    [
        (
            "sgd",
            {"momentum": 0.9},
            lambda groups: torch.optim.SGD(groups, lr=0.1, momentum=0.9, nesterov=True),
        ),
        ("sgd", {"momentum": 0.0}, lambda groups: torch.optim.SGD(groups, lr=0.1)),
        ("adamw", {"momentum": 0.0}, lambda groups: torch.optim.AdamW(groups, lr=0.1)),
    ],
)
def test_the_optimizers_follow_torch(
    batch: tuple[Tensor, Tensor], name: str, options: Any, theirs: Any
) -> None:
    plain, flat = network().train(), FlatModel(network().train())
    own = make_optimizer(name, flat.parameters, num_decayed=flat.num_decayed, weight_decay=0.01, **options)
    decayed = [value for value in plain.parameters() if value.ndim > 1]
    rest = [value for value in plain.parameters() if value.ndim <= 1]
    reference = theirs([{"params": decayed, "weight_decay": 0.01}, {"params": rest, "weight_decay": 0.0}])
    for step in range(5):
        rate = 0.01 * (step + 1)
        for group in reference.param_groups:
            group["lr"] = rate
        for model in (plain, flat.model):
            train_step(model, *batch)
        reference.step()
        reference.zero_grad()
        flat.take_gradients()
        with torch.no_grad():
            own.step(flat.parameters, flat.gradients, rate=rate, step=step)
        for mine, other in zip(
            flat.named(flat.parameters, flat.buffers).values(), plain.state_dict().values(), strict=True
        ):
            torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-5)
