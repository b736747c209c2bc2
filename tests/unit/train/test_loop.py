"""The training step over several ranks, played in one process."""

import threading
from typing import Any

import pytest
import torch
from torch import Tensor

from components.common.errors import StepError
from components.models.architectures import lenet
from components.train.collectives.base import Collective
from components.train.collectives.inline import Inline
from components.train.config import EarlyStoppingConfig, TrainConfig
from components.train.determinism import deterministic
from components.train.flat import FlatModel
from components.train.loop import Loop, TrainStep
from components.train.optimizers import make_optimizer
from components.train.resolve import Recipe
from components.train.state import TrainingState


class Threads(Collective):
    """Ranks that are threads of this process; sums are taken in the order of the ranks."""

    def __init__(self, rank: int, group: "Group") -> None:
        self.rank, self.world_size, self.group = rank, group.size, group

    def all_reduce_sum_(self, tensor: Tensor) -> None:
        self.group.parts[self.rank] = tensor.clone()
        self.group.barrier.wait()
        total = torch.stack([self.group.parts[rank] for rank in range(self.world_size)]).sum(dim=0)
        self.group.barrier.wait()
        tensor.copy_(total)

    def broadcast_(self, tensor: Tensor) -> None:
        raise NotImplementedError

    def barrier(self) -> None:
        self.group.barrier.wait()

    def close(self) -> None:
        pass


class Group:
    def __init__(self, size: int) -> None:
        self.size = size
        self.parts: dict[int, Tensor] = {}
        self.barrier = threading.Barrier(size, timeout=60)


def recipe(**changes: Any) -> Recipe:
    config = TrainConfig()
    fields: dict[str, Any] = {
        "model": "lenet",
        "epochs": 4,
        "batch_size": 6,
        "steps_per_epoch": 2,
        "optimizer": "sgd",
        "learning_rate": 0.05,
        "momentum": 0.9,
        "weight_decay": 1e-3,
        "warmup_steps": 1,
        "label_smoothing": 0.1,
        "class_weighting": "none",
        "ema_decay": 0.9,
        "keep": "last",
        "early_stopping": config.early_stopping,
        "gradient_clip": None,
        "seed": 0,
        "amp": False,
        "augment": config.augment,
    }
    return Recipe(**(fields | changes))


def new_state(recipe: Recipe) -> TrainingState:
    torch.manual_seed(0)
    model = lenet(4, 1, 8)
    for module in model:
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0  # its random numbers are a rank's own
    flat = FlatModel(model.train())
    optimizer = make_optimizer(
        recipe.optimizer, flat.parameters, num_decayed=flat.num_decayed, momentum=0.9, weight_decay=1e-3
    )
    return TrainingState(flat, optimizer, ema_decay=recipe.ema_decay, keep_best=recipe.keep == "best")


def batches(num: int) -> list[tuple[Tensor, Tensor]]:
    random = torch.Generator().manual_seed(3)
    return [(torch.randn(6, 1, 8, 8, generator=random), torch.arange(6) % 4) for _ in range(num)]


def train(world_size: int, parts: list[slice], recipe: Recipe, num: int = 4) -> list[TrainingState]:
    group = Group(world_size)
    states = [new_state(recipe) for _ in range(world_size)]
    failures: list[BaseException] = []

    def work(rank: int) -> None:
        try:
            step = TrainStep(states[rank], recipe, Threads(rank, group), class_weights=None, device="cpu")
            for number, (images, labels) in enumerate(batches(num)):
                step(number, images[parts[rank]], labels[parts[rank]])
        except BaseException as error:  # noqa: BLE001 - shown by the test
            failures.append(error)
            group.barrier.abort()

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(world_size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    return states


def test_an_empty_part_takes_part_and_changes_nothing() -> None:
    alone = train(1, [slice(0, 6)], recipe())[0]
    both = train(2, [slice(0, 6), slice(6, 6)], recipe())
    for state in both:
        assert torch.equal(state.flat.parameters, alone.flat.parameters)
        assert torch.equal(state.flat.buffers, alone.flat.buffers)
        for name, value in alone.flat.integers.items():
            assert torch.equal(state.flat.integers[name], value)


def test_all_ranks_hold_the_same_numbers_after_uneven_parts() -> None:
    first, second = train(2, [slice(0, 2), slice(2, 6)], recipe(gradient_clip=0.1))
    assert torch.equal(first.flat.parameters, second.flat.parameters)
    assert torch.equal(first.flat.buffers, second.flat.buffers)
    assert torch.equal(first.candidate()[1], second.candidate()[1])


def test_an_uneven_split_is_the_mean_over_the_whole_batch() -> None:
    """Without batch norm in training, parts of any size give the gradient of the whole batch."""
    found = {}
    for name, parts in {"even": [slice(0, 3), slice(3, 6)], "uneven": [slice(0, 1), slice(1, 6)]}.items():
        group = Group(2)
        states = [new_state(recipe()) for _ in range(2)]
        images, labels = batches(1)[0]

        def work(
            rank: int,
            states: list[TrainingState] = states,
            group: "Group" = group,
            parts: list[slice] = parts,
            images: Tensor = images,
            labels: Tensor = labels,
        ) -> None:
            step = TrainStep(states[rank], recipe(), Threads(rank, group), class_weights=None, device="cpu")
            states[rank].flat.model.eval()
            step(0, images[parts[rank]], labels[parts[rank]])

        threads = [threading.Thread(target=work, args=(rank,)) for rank in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        found[name] = states[0].flat
    torch.testing.assert_close(found["even"].parameters, found["uneven"].parameters, rtol=1e-5, atol=1e-6)
    assert found["even"].statistics[2] == found["uneven"].statistics[2] == 6


def run_loop(
    chosen: Recipe, accuracies: list[float], state: TrainingState | None = None, start: int = 0
) -> tuple[TrainingState, list[dict[str, float]]]:
    state = state or new_state(chosen)
    answers = iter(accuracies)
    epochs: list[dict[str, float]] = []
    loop = Loop(
        TrainStep(state, chosen, Inline(), class_weights=None, device="cpu"),
        validate=lambda: (1.0, next(answers)),
        on_progress=lambda values: None,
        on_epoch=epochs.append,
        checkpoint_due=lambda step: False,
        checkpoint=lambda: None,
    )
    loop.run(iter(batches(chosen.total_steps)[start:]))
    return state, epochs


def test_early_stopping_keeps_the_best_weights() -> None:
    chosen = recipe(epochs=6, keep="best", early_stopping=EarlyStoppingConfig(patience=2))
    state, epochs = run_loop(chosen, [0.5, 0.8, 0.8, 0.7, 0.9, 0.9])
    assert [entry["val_accuracy"] for entry in epochs] == [0.5, 0.8, 0.8, 0.7]
    assert state.progress.stopped
    assert state.progress.best_epoch == 1
    short, _ = run_loop(recipe(epochs=6, keep="best"), [0.5, 0.8, 0, 0, 0, 0])
    floats = {name: value for name, value in short.result().items() if value.is_floating_point()}
    assert all(torch.equal(state.result()[name], value) for name, value in floats.items())


def test_a_loss_that_is_no_number_ends_the_training() -> None:
    with pytest.raises(StepError, match="diverged") as caught:
        run_loop(recipe(learning_rate=1e30, warmup_steps=0), [0.5] * 4)
    assert "learning_rate" in (caught.value.todo or "")


def test_a_restored_state_goes_on_bit_for_bit() -> None:
    chosen = recipe(epochs=4, keep="best", optimizer="adamw")
    whole, _ = run_loop(chosen, [0.5, 0.6, 0.7, 0.6])
    # Stopped in the middle of an epoch.
    first = new_state(chosen)
    step = TrainStep(first, chosen, Inline(), class_weights=None, device="cpu")
    loop = Loop(
        step,
        validate=lambda: (1.0, 0.5),
        on_progress=lambda values: None,
        on_epoch=lambda values: None,
        checkpoint_due=lambda number: True,
        checkpoint=lambda: None,
    )
    loop.run(iter(batches(8)[:3]))
    second = new_state(chosen)
    tensors = {name: value.clone() for name, value in first.tensors().items()}
    second.load(tensors, first.describe(), where="here")
    resumed, _ = run_loop(chosen, [0.6, 0.7, 0.6], second, start=3)
    assert resumed.progress == whole.progress
    assert all(torch.equal(resumed.tensors()[name], value) for name, value in whole.tensors().items())


def test_a_checkpoint_of_another_network_is_refused() -> None:
    state = new_state(recipe())
    with pytest.raises(StepError, match="another network"):
        state.load(state.tensors(), {**state.describe(), "layout": "sha256:other"}, where="here")


def test_determinism_puts_back_what_it_changed() -> None:
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled(), torch.get_rng_state()
    with deterministic(threads=1, device="cpu"):
        assert torch.get_num_threads() == 1
        assert torch.are_deterministic_algorithms_enabled()
        torch.rand(3)
    assert torch.get_num_threads() == before[0]
    assert torch.are_deterministic_algorithms_enabled() == before[1]
    assert torch.equal(torch.get_rng_state(), before[2])
