"""One rank's whole training: build, resume, loop, save."""

import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from components.common.blobs import Blobs
from components.common.canonical import Json
from components.common.errors import StepError
from components.common.refs import ModelRef
from components.common.store.base import Store
from components.data.loaders import Batch, open_training_loader
from components.models.architectures import build_model, check_fits, copy_fitting, num_parameters
from components.models.weights import decode_weights, encode_weights, load_weights, save_model
from components.train.checkpoint import CheckpointWriter, read_checkpoint, write_checkpoint
from components.train.collectives.base import Collective
from components.train.determinism import deterministic
from components.train.flat import FlatModel
from components.train.job import Emit, Job
from components.train.loop import Loop, TrainStep
from components.train.optimizers import make_optimizer
from components.train.scalars import Scalars
from components.train.state import TrainingState
from components.train.validation import Validation

TRACE = "CONVEYOR_TRACE_SAMPLES"
"""A folder where each rank notes what it was given at each step: what the tests of the sample stream read."""


def train(job: Job, collective: Collective, store: Store, emit: Emit, scratch: Path) -> ModelRef | None:
    """Train to the end and save the model; rank 0 returns its reference, the others None."""
    placement = job.resolved.placement
    device = f"cuda:{collective.local_rank}" if placement.device == "cuda" else "cpu"
    with deterministic(threads=placement.threads, device=placement.device):
        if placement.device == "cuda":
            _check_cuda()
            torch.cuda.set_device(device)
        return _Training(job, collective, store, emit, device).run(scratch)


class _Training:
    def __init__(self, job: Job, collective: Collective, store: Store, emit: Emit, device: str) -> None:
        self.job, self.collective, self.emit, self.device = job, collective, emit, device
        self.store, self.blobs = store, Blobs(store)
        self.recipe, self.placement = job.resolved.recipe, job.resolved.placement
        self.state = self._build()
        if job.resume is not None:
            data, description = read_checkpoint(self.blobs, job.resume)
            where = f"checkpoint {job.resume}"
            self.state.load(decode_weights(data, where=where), description, where=where)
        self._check_replicas("at the start")

    def _build(self) -> TrainingState:
        """The same on every rank: weights come from the seed, or from the model to start from."""
        recipe, shards = self.recipe, self.job.shards
        torch.default_generator.manual_seed(recipe.seed)
        model = build_model(
            recipe.model,
            num_classes=len(shards.classes),
            channels=shards.channels,
            image_size=shards.image_size,
        )
        check_fits(model, recipe.model, channels=shards.channels, image_size=shards.image_size)
        if self.job.warm_start is not None:
            copied, num = copy_fitting(model, load_weights(self.job.warm_start, self.blobs))
            if not copied:
                self.emit("warning", message="nothing of the model to start from fits: training starts fresh")
            elif copied < num:
                self.emit("info", message=f"warm start: {copied} of {num} tensors fit and were taken over")
        self.num_parameters = num_parameters(model)
        flat = FlatModel(model.to(self.device).train())
        optimizer = make_optimizer(
            recipe.optimizer,
            flat.parameters,
            num_decayed=flat.num_decayed,
            momentum=recipe.momentum,
            weight_decay=recipe.weight_decay,
        )
        return TrainingState(flat, optimizer, ema_decay=recipe.ema_decay, keep_best=recipe.keep == "best")

    def run(self, scratch: Path) -> ModelRef | None:
        state, job, is_first = self.state, self.job, self.collective.rank == 0
        started, start_step = time.monotonic(), state.progress.step
        if is_first:
            self.emit("start", step=start_step, resumed=job.resume is not None)
        with ExitStack() as stack:
            scalars = stack.enter_context(
                Scalars.opened(self.store, job.key, scratch, start_step, enabled=is_first and job.tensorboard)
            )
            writer = self._checkpoint_writer(start_step)
            stack.callback(writer.close)
            loop = Loop(
                TrainStep(
                    state,
                    self.recipe,
                    self.collective,
                    class_weights=self._class_weights(),
                    device=self.placement.device,
                ),
                validate=Validation(
                    state, job.shards, self.blobs, self.placement, self.collective, job.cache
                ),
                on_progress=lambda values: self._on_progress(values, scalars),
                on_epoch=lambda values: self._on_epoch(values, scalars),
                checkpoint_due=writer.due if is_first else lambda _: False,
                checkpoint=lambda: writer.take(
                    state.progress.step,
                    {name: value.detach().clone() for name, value in state.tensors().items()},
                    state.describe(),
                ),
            )
            with self._batches(start_step) as batches:
                loop.run(batches)
            seconds = time.monotonic() - started
        self._check_replicas("at the end")
        return self._save(seconds, start_step) if is_first else None

    @contextmanager
    def _batches(self, start_step: int) -> Iterator[Iterator[tuple[Tensor, Tensor]]]:
        recipe, placement = self.recipe, self.placement
        if start_step >= recipe.total_steps or self.state.progress.stopped:
            yield iter(())
            return
        with open_training_loader(
            self.job.shards,
            self.blobs,
            augmentation=recipe.augment,
            seed=recipe.seed,
            global_batch=recipe.batch_size,
            rank=self.collective.rank,
            world_size=self.collective.world_size,
            start_step=start_step,
            stop_step=recipe.total_steps,
            backend=placement.backend,
            num_threads=placement.threads,
            cache=self.job.cache,
            device=torch.device(self.device) if placement.backend == "dali-gpu" else None,
        ) as batches:
            traced = self._traced(batches) if TRACE in os.environ else batches
            yield (
                (
                    batch.images.to(self.device, non_blocking=True),
                    batch.labels.to(self.device, non_blocking=True),
                )
                for batch in traced
            )

    def _traced(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        path = Path(os.environ[TRACE], f"rank-{self.collective.rank}-of-{self.collective.world_size}.txt")
        with path.open("a") as file:
            for number, batch in enumerate(batches, self.state.progress.step):
                pairs = " ".join(
                    f"{position}:{index}"
                    for position, index in zip(batch.positions, batch.indices, strict=True)
                )
                print(number, pairs, file=file, flush=True)
                yield batch

    def _checkpoint_writer(self, start_step: int) -> CheckpointWriter:
        job = self.job

        def write(step: int, tensors: dict[str, Any], progress: Json) -> None:
            write_checkpoint(
                self.store,
                self.blobs,
                job.key,
                step=step,
                state=encode_weights(tensors),
                progress=progress,
                keep=job.checkpoint.keep,
            )

        return CheckpointWriter(
            write,
            warn=lambda message: self.emit("warning", message=message),
            interval_s=job.checkpoint.interval_s,
            interval_steps=job.checkpoint.interval_steps,
            start_step=start_step,
        )

    def _class_weights(self) -> Tensor | None:
        if self.recipe.class_weighting == "none":
            return None
        return torch.tensor(self.job.shards.class_weights, dtype=torch.float32, device=self.device)

    def _on_progress(self, values: dict[str, float], scalars: Scalars) -> None:
        if self.collective.rank == 0:
            self.emit("progress", **values)
            scalars.add(values)

    def _on_epoch(self, values: dict[str, float], scalars: Scalars) -> None:
        if self.collective.rank == 0:
            self.emit("epoch", **values)
            scalars.add(values)

    def _check_replicas(self, when: str) -> None:
        """Every rank must hold the same bits; anything else is a fault that no result should come out of."""
        if self.collective.world_size == 1:
            return
        digest = hashlib.sha256()
        for _, value in sorted(self.state.tensors().items()):
            digest.update(value.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
        own = torch.frombuffer(bytearray(digest.digest()), dtype=torch.int64).clone()
        first = own.clone()
        self.collective.broadcast_(first)
        differs = torch.tensor([int(not torch.equal(own, first))], dtype=torch.int64)
        self.collective.all_reduce_sum_(differs)
        if differs.item():
            raise StepError(
                f"the workers' weights differ {when}",
                found=f"{int(differs.item())} of {self.collective.world_size} workers differ from the first",
                todo="use equal machines and builds for all workers; report it if they are",
            )

    def _save(self, seconds: float, start_step: int) -> ModelRef:
        progress, recipe = self.state.progress, self.recipe
        entry = progress.history[progress.best_epoch if recipe.keep == "best" else -1]
        if "val_accuracy" not in entry:
            self.emit("warning", message="there are no validation images: the accuracy is that of training")
        ref = save_model(
            self.blobs,
            self.state.result(),
            self.job.shards,
            architecture=recipe.model,
            epochs=len(progress.history),
            num_parameters=self.num_parameters,
            val_accuracy=float(entry.get("val_accuracy", entry["train_accuracy"])),
            history=progress.history,
            config={
                "given": self.job.config,
                "resolved": self.job.resolved.model_dump(mode="json"),
                **({"warm_start": self.job.warm_start.tree} if self.job.warm_start is not None else {}),
            },
        )
        images = (progress.step - start_step) * recipe.batch_size
        self.emit(
            "done",
            output=ref.to_value(),
            train_seconds=round(seconds, 3),
            images_per_second=round(images / max(seconds, 1e-9), 1),
        )
        return ref


def _check_cuda() -> None:
    if torch.cuda.is_available():
        return
    # What a GPU needs has been taken out of that image, whatever the driver of the machine.
    if os.environ.get("CONVEYOR_ACCELERATOR") == "cpu":
        raise StepError(
            "this is an image for CPUs, and training is to use a GPU",
            found="CONVEYOR_ACCELERATOR=cpu",
            todo="take the image conveyor:cuda (for an MPIJob: conveyor:mpi-cuda), or set train.device: cpu",
        )
    raise StepError(
        "torch cannot use the GPU of this machine",
        found=f"torch {torch.__version__}",
        todo="check the driver (nvidia-smi), or set train.device: cpu",
    )
