"""Jobs: a step, a training of several pods, and the launcher of a run. Pure: settings in, plain objects out."""

from collections.abc import Mapping, Sequence
from typing import Any

from components.cluster.config import KubernetesConfig
from components.cluster.names import CONFIG_FILE, CONFIG_FOLDER, QUEUE, labels, service_name
from components.cluster.pods import Object, placement_env, pod_template, webhook_env

EXIT_INPUT = 2
EXIT_FAILED = 3
EXIT_REFUSED = 4
EXIT_GENERATION_OVER = 75
EXIT_TRAINING_FAILED = 76
EXIT_INTERRUPTED = 130
CONFIG = f"{CONFIG_FOLDER}/{CONFIG_FILE}"
TRAIN = "train"
BACKOFF_S = 600
"""A Job controller may take so long to replace a pod that failed several times."""
TRAINING_SECRET = ("conveyor-training", "token")
"""A Secret that may be there, and its key: what training pods know of each other where the store needs no Secret."""


def step_args(step: str, run: str, *more: str) -> list[str]:
    """What a step's container is told."""
    return ["step", step, "--run", run, "-f", CONFIG, *more]


def step_env(step: str, settings: KubernetesConfig) -> dict[str, str]:
    """Environment on which the step's record key may depend, as its pods have it."""
    found = placement_env(settings, step)
    if step == TRAIN and settings.training.pods > 1:
        found["CONVEYOR_TRAIN_PODS"] = str(settings.training.pods)
        if settings.training.min_pods is not None:
            found["CONVEYOR_TRAIN_MIN_PODS"] = str(settings.training.min_pods)
    return found


def step_job(
    name: str,
    step: str,
    run: str,
    settings: KubernetesConfig,
    *,
    config_map: str | None,
    command_args: Sequence[str] | None = None,
    env: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
    owners: Sequence[Object] = (),
    namespace: str | None = None,
    service_account: str | None = None,
    token: bool = False,
) -> Object:
    """One pod that runs one step and ends. `command_args` replaces `step_args(step, run)`."""
    marks = labels(step, run=run, step=step, more=settings.labels)
    template = pod_template(
        step,
        step_args(step, run) if command_args is None else command_args,
        settings,
        labels=marks,
        config_map=config_map,
        env=env,
        shared_memory=step == TRAIN,
        service_account=service_account,
        token=token,
    )
    spec = {"backoffLimit": settings.retries, **limits(settings, failed_for_good=(EXIT_INPUT, EXIT_REFUSED))}
    return job(
        name, marks, settings, spec, template, annotations=annotations, owners=owners, namespace=namespace
    )


def training_job(
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
    service: str | None = None,
) -> Object:
    """Training of `settings.training.pods` pods that find each other by name, through `training_service(name, …)`.

    `service` is that Service's name, where it is not `names.service_name(name)`.
    Every pod runs the same command; its index is its rank (components/train/README.md). A pod that leaves because
    another one died (exit 75) does not count; those that die are capped by `training.max_attempts`.
    """
    training = settings.training
    domain = service or service_name(name)
    marks = labels(TRAIN, run=run, step=TRAIN, more=settings.labels)
    meeting = {
        "CONVEYOR_TRAIN_PODS": str(training.pods),
        "CONVEYOR_TRAIN_COORDINATOR": f"{name}-0.{domain}:{training.port}",
        **patience_env(settings),
    }
    template = pod_template(
        TRAIN,
        step_args(TRAIN, run) if command_args is None else command_args,
        settings,
        labels=marks,
        config_map=config_map,
        env={**(env or {}), **meeting},
        shared_memory=True,
        ports={"coordinator": training.port},
    )
    template["spec"]["subdomain"] = domain
    template["spec"]["containers"][0]["env"] += member_env(settings)
    spec: Object = {
        "completions": training.pods,
        "parallelism": training.pods,
        "completionMode": "Indexed",
        "backoffLimit": training.max_attempts,
        **limits(
            settings,
            failed_for_good=(EXIT_INPUT, EXIT_REFUSED, EXIT_TRAINING_FAILED),
            ignored=(EXIT_GENERATION_OVER, EXIT_INTERRUPTED),
        ),
    }
    return job(
        name, marks, settings, spec, template, annotations=annotations, owners=owners, namespace=namespace
    )


def patience_env(settings: KubernetesConfig) -> dict[str, str]:
    """How long training pods wait for each other: as long as their launcher does."""
    return {"CONVEYOR_TRAIN_START_TIMEOUT_S": str(min(settings.start_timeout_s + BACKOFF_S, 86400))}


def member_env(settings: KubernetesConfig) -> list[Object]:
    """What only the running pod knows: its address; and what only its peers know, so that nobody else gets in."""
    found: list[Object] = [
        {"name": "CONVEYOR_TRAIN_ADDRESS", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}
    ]
    name, key = (settings.secret, "secret-key") if settings.secret else TRAINING_SECRET
    source: Object = {"name": name, "key": key, "optional": True}
    found.append({"name": "CONVEYOR_TRAIN_TOKEN", "valueFrom": {"secretKeyRef": source}})
    return found


def training_service(
    name: str,
    run: str,
    settings: KubernetesConfig,
    *,
    owners: Sequence[Object] = (),
    namespace: str | None = None,
    service: str | None = None,
) -> Object:
    """The headless Service that gives the pods of the training Job `name` their names, before they are ready."""
    marks = labels(TRAIN, run=run, step=TRAIN, more=settings.labels)
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(service or service_name(name), marks, owners=owners, namespace=namespace),
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": {"batch.kubernetes.io/job-name": name},
            "ports": [{"name": "coordinator", "port": settings.training.port, "protocol": "TCP"}],
        },
    }


def launcher_job(
    name: str,
    run: str,
    settings: KubernetesConfig,
    *,
    config_map: str | None,
    command_args: Sequence[str],
    env: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
    owners: Sequence[Object] = (),
    namespace: str | None = None,
) -> Object:
    """The pod that launches a run's steps and waits for them. When it dies, the next one adopts what runs."""
    marks = labels("launcher", run=run, more=settings.labels)
    template = pod_template(
        "launcher",
        command_args,
        settings,
        labels=marks,
        config_map=config_map,
        env={"CONVEYOR_LAUNCHER": "1", **(env or {})},
        service_account=settings.launcher_service_account,
        token=True,
    )
    template["spec"]["containers"][0]["env"] += [
        {"name": "CONVEYOR_POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        *webhook_env(),
    ]
    # What a step failed of was tried often enough by the step's own Job.
    good = (EXIT_INPUT, EXIT_FAILED, EXIT_REFUSED)
    spec: Object = {"backoffLimit": 20, **limits(settings, failed_for_good=good)}
    spec.pop("activeDeadlineSeconds", None)  # each step has its own
    # Not in Kueue's queue: a launcher that takes the room of the steps that it waits for would wait for ever.
    return job(
        name,
        marks,
        settings.model_copy(update={"queue": None}),
        spec,
        template,
        annotations=annotations,
        owners=owners,
        namespace=namespace,
    )


def config_map(
    name: str,
    content: str,
    settings: KubernetesConfig,
    *,
    more: Mapping[str, str] | None = None,
    owners: Sequence[Object] = (),
    namespace: str | None = None,
) -> Object:
    """The config file, never to be changed: name it with `names.config_name`. `more` are files beside it."""
    marks = labels("config", more=settings.labels)
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(name, marks, owners=owners, namespace=namespace),
        "immutable": True,
        "data": {**(more or {}), CONFIG_FILE: content},
    }


def limits(
    settings: KubernetesConfig, *, failed_for_good: Sequence[int], ignored: Sequence[int] = ()
) -> Object:
    """When a Job gives up, what does not count against it, and how long it stays."""
    rules: list[Object] = [
        # Drained, preempted, evicted from a node that ran short: nobody's fault. The kubelet sets no such condition
        # where a pod fills more disk than it may.
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
    ]
    if ignored:
        rules.append({"action": "Ignore", "onExitCodes": {"operator": "In", "values": list(ignored)}})
    if failed_for_good:
        rules.append(
            {"action": "FailJob", "onExitCodes": {"operator": "In", "values": list(failed_for_good)}}
        )
    found: Object = {"podFailurePolicy": {"rules": rules}, "podReplacementPolicy": "Failed"}
    if settings.deadline_s is not None:
        found["activeDeadlineSeconds"] = settings.deadline_s
    if settings.ttl_s is not None:
        found["ttlSecondsAfterFinished"] = settings.ttl_s
    return found


def job(
    name: str,
    marks: Mapping[str, str],
    settings: KubernetesConfig,
    spec: Mapping[str, Any],
    template: Object,
    *,
    annotations: Mapping[str, str] | None = None,
    owners: Sequence[Object] = (),
    namespace: str | None = None,
) -> Object:
    """A batch/v1 Job around a template; in Kueue's queue where one is set."""
    own = dict(marks)
    notes = {**settings.annotations, **(annotations or {})}
    if settings.queue:
        own[QUEUE] = settings.queue
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata(name, own, annotations=notes, owners=owners, namespace=namespace),
        "spec": {**spec, "template": template},
    }


def metadata(
    name: str,
    marks: Mapping[str, str],
    *,
    annotations: Mapping[str, str] | None = None,
    owners: Sequence[Object] = (),
    namespace: str | None = None,
) -> Object:
    """Name, labels and, where given, namespace, annotations and owners."""
    found: Object = {"name": name}
    if namespace is not None:
        found["namespace"] = namespace
    found["labels"] = dict(marks)
    if annotations:
        found["annotations"] = dict(annotations)
    if owners:
        found["ownerReferences"] = [dict(owner) for owner in owners]
    return found
