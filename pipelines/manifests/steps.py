"""Each step as a Job of its own, all applied together: init containers wait for what the others leave in the run, and one
that stays beside the step tells them where the step was killed."""

from collections.abc import Iterable
from typing import Any

from components.cluster.config import KubernetesConfig
from components.cluster.jobs import CONFIG, TRAIN, step_job, training_job, training_service
from components.cluster.mpi import LAUNCHER, mpi_job
from components.cluster.names import RUN, STEP
from components.cluster.pods import Object, container_security
from components.common.failed import TRIES
from components.common.full_disk import DISK_LIMIT, SIZED_AS
from components.common.main import NAMESPACE, STORE
from components.common.runs import JOB
from components.common.watch import MARK, MEMORY_LIMIT
from pipelines.graph import Graph, Step

CONFIG_MAP = "conveyor-config"
RUN_PREFIX = "conveyor"
"""What a run is called before an overlay adds its digest."""
MARK_FILE = "/tmp/conveyor-is-running"  # noqa: S108 - the pod's own
"""In /tmp, which all containers of the pod have, whatever TMPDIR says."""
PREFIX_VARIABLE = "CONVEYOR_RUN_PREFIX"
JOB_NAME = "CONVEYOR_JOB_NAME"
WATCH = "watch"
"""The container beside the step's (components/common/watch.py)."""
PULLED_ONCE = {"kube-score/ignore": "container-image-pull-policy"}
"""Exception for kube-score, which wants `Always`: an image of a fixed tag or digest that a node has is the right one, and
a cluster whose images were loaded by hand has no registry to ask."""
WAITING: Object = {
    "requests": {"cpu": "50m", "memory": "128Mi", "ephemeral-storage": "10Mi"},
    "limits": {"memory": "512Mi", "ephemeral-storage": "100Mi"},
}
WATCHING: Object = {
    # 12 MiB until the step has been killed; then it opens the store.
    "requests": {"cpu": "50m", "memory": "32Mi", "ephemeral-storage": "10Mi"},
    "limits": {"memory": "512Mi", "ephemeral-storage": "100Mi"},
}
TOGETHER = {"cpu": "100m", "memory": "512Mi"}
"""What a step reserves where nobody decided: all pods are there from the start, and must fit on one small node
together, else those that wait could keep out the one that they wait for."""


def job_name(step: str) -> str:
    """An overlay adds its digest."""
    return f"conveyor-{step.replace('_', '-')}"


def step_objects(graph: Graph, step: Step, settings: KubernetesConfig) -> list[Object]:
    """The Job of a step; for training in several pods with the Service that gives them names."""
    name = job_name(step.name)
    if step.name != TRAIN or settings.training.pods == 1:
        job = step_job(
            name,
            step.name,
            RUN_PREFIX,
            settings,
            config_map=CONFIG_MAP,
            command_args=_args(step.name),
            annotations=PULLED_ONCE,
        )
        _join_in(job["spec"]["template"], graph, step, settings, tries=job["spec"]["backoffLimit"] + 1)
        _give_time(job["spec"], graph, step, settings)
        return [job]
    service = training_service(name, RUN_PREFIX, settings, service=name)
    # The Job's name changes with the settings, the Service's does not: a pod is found as <Job>-<index>.<Service>.
    del service["metadata"]["labels"][RUN]
    service["spec"]["selector"] = {STEP: TRAIN}
    job = training_job(
        name,
        RUN_PREFIX,
        settings,
        config_map=CONFIG_MAP,
        command_args=_args(TRAIN),
        annotations=PULLED_ONCE,
        service=name,
    )
    template = job["spec"]["template"]
    _join_in(template, graph, step, settings, tries=job["spec"]["backoffLimit"] + 1)
    _give_time(job["spec"], graph, step, settings)
    _set_env(template, "CONVEYOR_TRAIN_COORDINATOR", f"$({JOB_NAME})-0.{name}:{settings.training.port}")
    return [service, job]


def mpi_objects(graph: Graph, settings: KubernetesConfig) -> list[Object]:
    """Training as an MPIJob instead: its launcher waits, then runs the step."""
    job = mpi_job(job_name(TRAIN), RUN_PREFIX, settings, config_map=CONFIG_MAP, command_args=_args(TRAIN))
    replicas = job["spec"]["mpiReplicaSpecs"]
    tries = job["spec"]["runPolicy"]["backoffLimit"] + 1
    launcher = replicas["Launcher"]["template"]
    _join_in(launcher, graph, graph[TRAIN], settings, tries=tries, sized_as=LAUNCHER)
    _give_time(job["spec"]["runPolicy"], graph, graph[TRAIN], settings)
    _reserve_little(TRAIN, settings, replicas["Worker"]["template"])
    return [job]


def waits_for(graph: Graph, step: Step) -> tuple[str, ...]:
    """The steps that must have ended, without those that another of them waits for anyway."""
    direct = set(step.inputs.values())
    implied = {far for near in direct for far in _before(graph, near)}
    return tuple(name for name in graph.names() if name in direct - implied)


def depth(graph: Graph, name: str) -> int:
    """How many steps run one after the other before this one."""
    return max((1 + depth(graph, near) for near in graph[name].inputs.values()), default=0)


def _give_time(limits: Object, graph: Graph, step: Step, settings: KubernetesConfig) -> None:
    """Every step before this one may take its whole deadline, and the Job is there from the start."""
    if settings.deadline_s is not None:
        limits["activeDeadlineSeconds"] = (depth(graph, step.name) + 1) * settings.deadline_s


def _before(graph: Graph, name: str) -> set[str]:
    """All steps that come before, however far."""
    near = set(graph[name].inputs.values())
    return near | {far for each in near for far in _before(graph, each)}


def _args(step: str, *more: str) -> list[str]:
    return ["step", step, "--run-prefix", f"$({PREFIX_VARIABLE})", "-f", CONFIG, *more]


def _join_in(
    template: Object,
    graph: Graph,
    step: Step,
    settings: KubernetesConfig,
    *,
    tries: int,
    sized_as: str | None = None,
) -> None:
    """Tell the pod which run and Job it belongs to, and let it wait."""
    _reserve_little(sized_as or step.name, settings, template)
    container = template["spec"]["containers"][0]
    # First: the others may refer to them as $(NAME).
    container["env"] = [*_identity(tries), *_watched(container, sized_as), *container["env"]]
    template["spec"]["initContainers"] = [
        _watching(container, step.name),
        *(
            _waiting(container, graph, step, upstream, settings)
            for upstream in waits_for(graph, step) or (STORE,)
        ),
    ]


def _identity(tries: int) -> list[Object]:
    fields = {
        PREFIX_VARIABLE: f"metadata.labels['{RUN}']",
        JOB: "metadata.labels['batch.kubernetes.io/controller-uid']",
        JOB_NAME: "metadata.labels['batch.kubernetes.io/job-name']",
        NAMESPACE: "metadata.namespace",
    }
    found: list[Object] = [
        {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}} for name, path in fields.items()
    ]
    return [*found, {"name": TRIES, "value": str(tries)}]


def _watched(container: Object, sized_as: str | None) -> list[Object]:
    """What each container of the pod does for the one that watches."""
    found = [{"name": MARK, "value": MARK_FILE}, _limit(DISK_LIMIT, container, "ephemeral-storage", "1")]
    return [*found, {"name": SIZED_AS, "value": sized_as}] if sized_as else found


def _limit(name: str, container: Object, resource: str, divisor: str) -> Object:
    """A variable with what that container may use, for others too."""
    field = {"containerName": container["name"], "resource": f"limits.{resource}", "divisor": divisor}
    return {"name": name, "valueFrom": {"resourceFieldRef": field}}


def _waiting(
    container: Object, graph: Graph, step: Step, upstream: str, settings: KubernetesConfig
) -> Object:
    more = ["--wait-for", upstream]
    if upstream != STORE:
        wait_s = settings.deadline_s and depth(graph, step.name) * settings.deadline_s
        more += ["--deadline", str(wait_s or "inf")]
    return _beside(container, f"wait-for-{upstream.replace('_', '-')}", _args(step.name, *more), WAITING)


def _watching(container: Object, step: str) -> Object:
    """A sidecar: Kubernetes starts it first, and ends it when the step's container has ended, however that was."""
    beside = _beside(container, WATCH, _args(step, "--watch"), WATCHING)
    beside["env"] = [*beside["env"], _limit(MEMORY_LIMIT, container, "memory", "1Mi")]
    return {**beside, "restartPolicy": "Always"}


def _beside(container: Object, name: str, args: list[str], amounts: Object) -> Object:
    """An init container of the step's image, with what the step has of environment, settings and volumes."""
    resources = {kind: dict(values) for kind, values in amounts.items()}
    if "cpu" in container["resources"]["limits"]:  # where a quota asks for limits, it asks for these too
        resources["limits"]["cpu"] = container["resources"]["limits"]["cpu"]
    # All that settings or environment may speak of: certificates, a store in a folder, TMPDIR.
    mounts = [each for each in container["volumeMounts"] if each["mountPath"] != "/dev/shm"]  # noqa: S108 - the pod's own
    return {
        "name": name,
        "image": container["image"],
        "imagePullPolicy": container["imagePullPolicy"],
        "args": args,
        "env": container["env"],
        "resources": resources,
        "securityContext": container_security(),
        "volumeMounts": mounts,
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }


def _reserve_little(sized_as: str, settings: KubernetesConfig, template: Object) -> None:
    if sized_as in settings.resources or "default" in settings.resources:
        return
    for container in template["spec"]["containers"]:
        container["resources"]["requests"] |= TOGETHER


def _set_env(template: Object, name: str, value: str) -> None:
    for variable in _env(template):
        if variable["name"] == name:
            variable["value"] = value


def _env(template: Object) -> Iterable[dict[str, Any]]:
    found: list[dict[str, Any]] = template["spec"]["containers"][0]["env"]
    return found
