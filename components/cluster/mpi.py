"""Training as an MPIJob (kubeflow.org/v2beta1): for clusters where the MPI operator is the way to run such jobs."""

from collections.abc import Mapping, Sequence

from components.cluster.config import KubernetesConfig
from components.cluster.jobs import TRAIN, member_env, metadata, patience_env, step_args, step_env
from components.cluster.names import COMPONENT, QUEUE, labels
from components.cluster.pods import Object, pod_template

SSH_FOLDER = "/etc/ssh/conveyor"
"""Where docker/mpi/sshd_config and ssh_config look for the operator's keys."""
SSHD = ("/usr/sbin/sshd", "-De", "-p")
"""In front, saying on stderr what is wrong; the port follows."""
SSH_PORT = "CONVEYOR_TRAIN_SSH_PORT"
LAUNCHER = "launcher"
WORKER = "train-worker"


def mpi_job(
    name: str,
    run: str,
    settings: KubernetesConfig,
    *,
    config_map: str | None,
    command_args: Sequence[str] | None = None,
    env: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
    owners: Sequence[Object] = (),
    namespace: str | None = None,
) -> Object:
    """An MPIJob of `settings.training.pods` workers. Its launcher runs the step and starts a member on each worker.

    The image must be the one with an ssh server (docker/Dockerfile, target `mpi`).
    """
    training = settings.training
    marks = labels(TRAIN, run=run, step=TRAIN, more=settings.labels)
    meeting = {
        **(env or {}),
        **step_env(TRAIN, settings),
        **patience_env(settings),
        "CONVEYOR_TRAIN_PODS": str(training.pods),
    }
    launcher = pod_template(
        TRAIN,
        step_args(TRAIN, run) if command_args is None else command_args,
        settings,
        labels=marks,
        config_map=config_map,
        env={**meeting, "CONVEYOR_TRAIN_HOSTS": "mpi", SSH_PORT: str(training.ssh_port)},
        restart_policy=None,
        # It starts and joins the members, and trains nothing itself: no worker's memory, no GPU, nor a GPU's node.
        sized_as=LAUNCHER,
    )
    launcher["spec"]["containers"][0]["env"] += member_env(settings)
    worker = pod_template(
        TRAIN,
        [],
        settings,
        labels={**marks, COMPONENT: WORKER},
        config_map=config_map,
        env=meeting,
        command=(*SSHD, str(training.ssh_port)),
        shared_memory=True,
        restart_policy=None,
        ports={"ssh": training.ssh_port},
    )
    worker["spec"]["containers"][0]["env"] += member_env(settings)
    policy: Object = {
        # The default keeps workers, and their GPUs, for good.
        "cleanPodPolicy": "Running",
        "backoffLimit": training.max_attempts,
    }
    if settings.deadline_s is not None:
        policy["activeDeadlineSeconds"] = settings.deadline_s
    if settings.ttl_s is not None:
        policy["ttlSecondsAfterFinished"] = settings.ttl_s
    own = {**marks, QUEUE: settings.queue} if settings.queue else marks
    notes = {**settings.annotations, **(annotations or {})}
    return {
        "apiVersion": "kubeflow.org/v2beta1",
        "kind": "MPIJob",
        "metadata": metadata(name, own, annotations=notes, owners=owners, namespace=namespace),
        "spec": {
            "slotsPerWorker": 1,
            "sshAuthMountPath": SSH_FOLDER,
            # An elastic training begins without those that do not come.
            "launcherCreationPolicy": "WaitForWorkersReady"
            if training.min_pods in (None, training.pods)
            else "AtStartup",
            "runPolicy": policy,
            "mpiReplicaSpecs": {
                # Never: each try keeps its own pod, log and last words.
                "Launcher": {"replicas": 1, "restartPolicy": "Never", "template": launcher},
                "Worker": {"replicas": training.pods, "restartPolicy": "OnFailure", "template": worker},
            },
        },
    }
