"""Training across pods, from any of them: the leading one returns the model, and so do the others."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from components.common.errors import ConveyorError, StepError
from components.common.refs import ModelRef
from components.common.step import StepContext
from components.train.config import TrainConfig
from components.train.job import Job
from components.train.monitor import Monitor
from components.train.pods.coordinator import Coordinator
from components.train.pods.environment import Pods
from components.train.pods.lead import Lead
from components.train.pods.member import Member
from components.train.pods.mpi import mpi_hosts

JOIN_S = 10.0


@dataclass(frozen=True)
class Task:
    """What is to be trained."""

    config: TrainConfig
    inputs: dict[str, Any]
    """References, as JSON."""
    job: Job
    published: Callable[[], ModelRef | None]
    """The result, once the record stands."""


def train_across_pods(
    task: Task, context: StepContext, monitor: Monitor, pods: Pods, *, max_restarts: int
) -> ModelRef:
    """Lead the training, or take part in it. Every pod returns the model, so whichever comes first publishes it.

    Raises `GenerationOverError` (exit status 75) where the pods are to be started anew, `TrainingFailedError` (76)
    where that would not help.
    """
    if not pods.leads:
        return Member(task.job, context, monitor, pods, task.published).take_part()
    with ExitStack() as stack:
        coordinator = stack.enter_context(_listening(task.job, pods))
        if pods.hosts:
            stack.enter_context(mpi_hosts(task.config, task.inputs, context, pods, coordinator))
        else:
            stack.enter_context(_own_member(task, context, pods, coordinator))
        return Lead(task.job, context, monitor, pods, coordinator, max_restarts=max_restarts).run()


@contextmanager
def _listening(job: Job, pods: Pods) -> Iterator[Coordinator]:
    address = pods.own_address()
    try:
        coordinator = Coordinator(
            address,
            pods.port if not pods.hosts else 0,
            key=job.key,
            count=pods.count,
            token=pods.token,
            silence_s=pods.silence_s,
        )
    except OSError as error:
        raise StepError(
            "the training's coordinator cannot listen",
            where=f"{address}:{pods.port}",
            found=str(error),
            todo="check CONVEYOR_TRAIN_ADDRESS and CONVEYOR_TRAIN_COORDINATOR",
        ) from error
    with coordinator:
        yield coordinator


@contextmanager
def _own_member(task: Task, context: StepContext, pods: Pods, coordinator: Coordinator) -> Iterator[None]:
    """Pod 0 trains too: its member connects as all others do, from a thread that lives as long as its workers."""
    scratch = Path(context.scratch, "member")
    scratch.mkdir()
    member = Member(
        task.job,
        replace(context, scratch=scratch),
        Monitor(context.reporter, task.job.resolved.recipe),
        replace(pods, host=coordinator.address, port=coordinator.port, address=coordinator.address),
        task.published,
    )

    def take_part() -> None:
        try:
            member.take_part()
        except ConveyorError as error:
            # What ended it was heard by the coordinator too; what kept it from beginning was not.
            if isinstance(error, StepError) and not member.stop.is_set():
                context.reporter.warning(str(error))

    thread = threading.Thread(target=take_part, name="own-member", daemon=True)
    thread.start()
    try:
        yield
    finally:
        member.stop.set()
        # Its connection ends with the coordinator, which was opened before and closes after this block: cut it here.
        coordinator.hang_up()
        thread.join(JOIN_S)
