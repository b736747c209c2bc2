import itertools
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from components.common.errors import StepError
from components.compress.export import export
from components.compress.finetune import Recipe, finetune, onnx_teacher, schedule, torch_teacher
from components.compress.prune import prune
from components.compress.reproducible import reproducible
from components.models.architectures import build_model
from components.models.onnx_predictor import OnnxPredictor

RECIPE = Recipe(num_steps=30, learning_rate=3e-3, weight_decay=1e-4, distillation=0.7, temperature=2.0)
CPU = torch.device("cpu")
SIZE = 24


def make_batches(num: int = 30) -> Iterator[Any]:
    generator = torch.Generator().manual_seed(1)
    for _ in range(num):
        labels = torch.randint(0, 3, (24,), generator=generator)
        images = torch.randn(24, 1, SIZE, SIZE, generator=generator) * 0.3
        images[torch.arange(24), 0, labels * 4] += 2.0  # a bright row tells the class
        yield SimpleNamespace(images=images, labels=labels)


def network(seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    return build_model("lenet", num_classes=3, channels=1, image_size=SIZE)


def healed(recipe: Recipe = RECIPE) -> tuple[torch.nn.Module, list[float]]:
    losses: list[float] = []
    with reproducible(threads=1, seed=5, device="cpu"):
        teacher = network()
        student = prune(teacher, 0.5, torch.zeros(1, 1, SIZE, SIZE))
        done = finetune(
            student,
            torch_teacher(teacher, CPU),
            make_batches(),
            recipe,
            device=CPU,
            on_step=lambda _, loss: losses.append(loss),
        )
    return done, losses


@pytest.mark.parametrize("distillation", [0.0, 0.7])
def test_training_lowers_the_loss(distillation: float) -> None:
    _, losses = healed(Recipe(30, 3e-3, 1e-4, distillation, 2.0))
    assert len(losses) == 30
    assert np.mean(losses[-5:]) < 0.8 * losses[0]


def test_twice_gives_the_same_bits_whatever_torch_was_set_to() -> None:
    first, losses = healed()
    torch.manual_seed(99)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        second, again = healed()
    finally:
        torch.set_num_threads(threads)
    assert losses == again
    weights = first.state_dict()
    assert all(torch.equal(weights[name], value) for name, value in second.state_dict().items())


def test_the_teacher_stays_and_the_student_follows_it() -> None:
    with reproducible(threads=1, seed=5, device="cpu"):
        teacher = network().eval()
        with torch.no_grad():
            teacher.get_parameter("10.weight").mul_(30)  # an untrained network hardly tells images apart
        before = {name: value.clone() for name, value in teacher.state_dict().items()}
        student = network(7).eval()
        recipe = Recipe(30, 3e-3, 0.0, 1.0, 2.0)  # the teacher alone teaches
        x = torch.cat([batch.images for batch in make_batches(4)])

        def distance() -> float:
            with torch.no_grad():
                return float((student(x) - teacher(x)).pow(2).mean())

        far = distance()
        finetune(
            student, torch_teacher(teacher, CPU), make_batches(), recipe, device=CPU, on_step=lambda *_: None
        )
        assert all(torch.equal(before[name], value) for name, value in teacher.state_dict().items())
        assert distance() < far


def test_a_loss_that_is_no_number_is_an_error() -> None:
    broken = SimpleNamespace(
        images=torch.full((4, 1, 16, 16), float("inf")), labels=torch.zeros(4, dtype=torch.long)
    )
    with reproducible(threads=1, seed=0, device="cpu"), pytest.raises(StepError, match="diverged") as raised:
        finetune(
            network(), torch_teacher(network(1), CPU), [broken], RECIPE, device=CPU, on_step=lambda *_: None
        )
    assert "compress.prune.learning_rate" in str(raised.value)


def test_torch_is_left_as_it_was() -> None:
    threads, state = torch.get_num_threads(), torch.random.get_rng_state()
    with reproducible(threads=threads + 1, seed=1, device="cpu"):
        assert torch.get_num_threads() == threads + 1
        assert torch.are_deterministic_algorithms_enabled()
        torch.rand(3)
    assert torch.get_num_threads() == threads
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.equal(torch.random.get_rng_state(), state)


def test_the_rate_rises_then_falls_to_nothing() -> None:
    rates = [schedule(step, 100) for step in range(100)]
    assert rates[:10] == pytest.approx([(k + 1) / 10 for k in range(10)])
    assert all(a > b for a, b in itertools.pairwise(rates[10:]))
    assert 0 < rates[-1] < 0.001
    assert schedule(0, 1) == 1.0


def test_both_kinds_of_teacher_say_the_same() -> None:
    model = network().eval()
    images = next(make_batches()).images
    with reproducible(threads=1, seed=0, device="cpu"):
        data = export(model, channels=1, image_size=SIZE)
    answers = onnx_teacher(OnnxPredictor(data))(images)
    assert torch.allclose(answers, torch_teacher(model, CPU)(images), atol=1e-5)
    assert not answers.requires_grad
