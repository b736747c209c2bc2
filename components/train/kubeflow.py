"""Training from a Kubeflow task: in the task's own pod, or in several that it launches and follows."""

import os
from typing import Any

from components.common.errors import InputError
from components.common.main import read_inputs, run_step
from components.common.progress import make_reporter
from components.common.sections import RootBase
from components.common.step import Outcome

IMAGE = "CONVEYOR_IMAGE"
"""The image of the task's own pod, which the pods of the training get too."""
FOLLOWS_ONLY = "CONVEYOR_FOLLOWS_ONLY"
"""Set where the task's own pod has the launcher's resources, since the pipeline was compiled for several pods."""


def run_train(name: str, package: str, config: RootBase, sources: dict[str, str], *, run_id: str) -> Outcome:
    """The training step; with `kubernetes.training.pods` above 1 as a Job of so many pods.

    The Job is named by the record's key, so a task that is tried again goes on following it. A task that hears of its stop
    (the run was terminated) stops the Job: what it has learnt lies in its checkpoints. Under Kubeflow it hears by
    `components.common.kubeflow.STOP`; what it cannot stop, the run's last task does.

    Raises `InputError` where one pod is to train and this one has not the resources.
    """
    if config.kubernetes.training.pods <= 1:
        if os.environ.get(FOLLOWS_ONLY):
            raise InputError(
                "this pipeline trains in several pods: its train task has no resources to train itself",
                where="parameter training_pods",
                expected="2 or more",
                found=f"{config.kubernetes.training.pods} (0 in the form keeps the config's)",
                todo="give training_pods; or compile or submit the pipeline again without kubernetes.training.pods",
            )
        return run_step(name, package, config, sources, run_id=run_id)
    from components.cluster.launch import launch_step
    from components.cluster.leftover import end_training
    from components.train import run as program

    image = os.environ.get(IMAGE)
    if image:
        kubernetes = config.kubernetes.model_copy(update={"image": image})
        config = config.model_copy(update={"kubernetes": kubernetes})
    store = config.store.open()
    store.check()
    inputs: Any = read_inputs(program.Inputs, sources, store, run_id)
    try:
        return launch_step(program, config, inputs, store, make_reporter(), run_id=run_id)
    except KeyboardInterrupt:
        end_training(config.kubernetes.namespace, make_reporter())
        raise
