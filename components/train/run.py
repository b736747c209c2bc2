"""The training step: shards → model."""

import json
import os
import platform
from pathlib import Path
from typing import Any

from components.common.canonical import Json
from components.common.machine import package_version
from components.common.records import read_record
from components.common.refs import ModelRef, ShardsRef
from components.common.step import StepContext, StepInputs
from components.common.store.base import Store
from components.train.checkpoint import newest_valid
from components.train.config import TrainConfig
from components.train.job import Job
from components.train.launch import train_in_workers
from components.train.machine import dali_version, this_machine
from components.train.monitor import Monitor
from components.train.pods.environment import this_pod
from components.train.pods.train import Task, train_across_pods
from components.train.resolve import ResolvedTrainConfig, resolve

NAME = "train"


class Inputs(StepInputs):
    """What training reads."""

    shards: ShardsRef
    warm_start: ModelRef | None = None
    """A model whose weights are the start, wherever names and shapes fit."""


def depends_on(config: TrainConfig, inputs: Inputs, store: Store) -> dict[str, Json]:  # noqa: ARG001 - every step has it
    """The same settings give other bits with another world size, engine, device, thread count or build."""
    placement = resolve(config, inputs.shards, this_machine()).placement
    builds: dict[str, Json] = {
        "torch": package_version("torch"),
        "torchvision": package_version("torchvision"),
        "dali": dali_version() if placement.backend.startswith("dali") else None,
        "horovod": package_version("horovod") if placement.engine == "horovod" else None,
    }
    return {"placement": placement.model_dump(mode="json"), "builds": builds}


def run(config: TrainConfig, inputs: Inputs, context: StepContext) -> ModelRef:
    """Train, or go on from the newest valid checkpoint of the same training.

    Raises `InputError` for settings that do not fit the data or the machine, `StepError` where training diverges or
    workers keep dying. The checkpoints of a finished training stay until `conveyor gc` (its record is published only
    after this returns).
    """
    resolved = resolve(config, inputs.shards, this_machine())
    _tell(resolved, config, context)
    job = Job(
        key=context.key,
        shards=inputs.shards,
        warm_start=inputs.warm_start,
        resolved=resolved,
        config=config.key_fields(),
        checkpoint=config.checkpoint,
        cache=config.cache,
        tensorboard=config.tensorboard,
        resume=None,
    )
    monitor = Monitor(context.reporter, resolved.recipe)
    pods = this_pod()
    if resolved.placement.engine == "inline":
        model = _train_inline(job, context, monitor)
    elif pods is not None:
        task = Task(
            config=config,
            inputs=inputs.model_dump(mode="json"),
            job=job,
            published=lambda: _published(context),
        )
        model = train_across_pods(task, context, monitor, pods, max_restarts=config.max_restarts)
    else:
        model = train_in_workers(job, context, monitor, max_restarts=config.max_restarts)
    done = monitor.done or {}
    context.measure.update(
        train_seconds=done.get("train_seconds"),
        images_per_second=done.get("images_per_second"),
        resumed_from=list(monitor.resumed_from),
        host=platform.node(),
        cores=os.cpu_count(),
    )
    context.reporter.info(
        f"trained {resolved.recipe.model}",
        val_accuracy=model.val_accuracy,
        epochs=model.epochs,
        parameters=model.num_parameters,
        seconds=done.get("train_seconds"),
    )
    return model


def _published(context: StepContext) -> ModelRef | None:
    """What another pod of this training published meanwhile."""
    record = read_record(context.store, NAME, context.key)
    return ModelRef.model_validate_json(json.dumps(record.output)) if record is not None else None


def _train_inline(job: Job, context: StepContext, monitor: Monitor) -> ModelRef:
    """In this process; its death is the step's, and the next run goes on from the checkpoint."""
    from components.train.collectives.inline import Inline
    from components.train.trainer import train

    found = newest_valid(context.store, context.blobs, context.key, context.reporter.warning)
    job = job.model_copy(update={"resume": found.tree if found else None})
    scratch = Path(context.scratch, "inline")
    scratch.mkdir()
    try:
        model = train(job, Inline(), context.store, monitor, scratch)
    finally:
        monitor.end_try()
    assert model is not None  # rank 0 has one
    return model


def _tell(resolved: ResolvedTrainConfig, config: TrainConfig, context: StepContext) -> None:
    recipe, placement = resolved.recipe, resolved.placement
    chosen: dict[str, Any] = {
        "model": recipe.model,
        "epochs": recipe.epochs,
        "batch_size": recipe.batch_size,
        "learning_rate": recipe.learning_rate,
        "optimizer": recipe.optimizer,
        "class_weighting": recipe.class_weighting,
        "keep": recipe.keep,
        **placement.model_dump(mode="json"),
    }
    context.reporter.info("training with", **chosen)
    if config.engine == "auto" and placement.engine == "ddp":
        context.reporter.info(
            "Horovod is not installed: torch's DDP joins the workers (conveyor doctor says more)"
        )
