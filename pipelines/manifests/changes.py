"""kustomize components: what turns the steps as they are into steps with a GPU, or without a Secret.

Each patch is the difference of what two settings make, and has a `target`: what an overlay lacks is passed over, so that
components combine with each other, with the schedule and with the MPIJob, in any order.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from components.cluster.config import KubernetesConfig, Resources, resources_for
from components.cluster.jobs import TRAIN
from components.cluster.pods import Object
from pipelines.graph import Graph
from pipelines.manifests.retrain import cron_job
from pipelines.manifests.steps import mpi_objects, step_objects

GPU_TOLERATION = {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
CRON_TEMPLATE = ("spec", "jobTemplate", "spec", "template")
REPLICAS = ("Launcher", "Worker")


@dataclass(frozen=True, slots=True)
class Patch:
    """A file of a component, and what it is for."""

    file: str
    kind: str
    name: str
    content: Object | list[Object]
    """An object to merge, or a list of JSON patch operations."""


def without_secret(graph: Graph, settings: KubernetesConfig) -> list[Patch]:
    """Every pod as it is where `kubernetes.secret` is empty."""
    identity = settings.model_copy(update={"secret": ""})
    patches = [_of_job(graph, name, settings, identity) for name in graph.names()]
    patches.append(_of_cron_job(cron_job(graph, settings), cron_job(graph, identity)))
    patches.append(_of_mpi_job(graph, settings, identity))
    return [patch for patch in patches if patch is not None]


def with_gpu(graph: Graph, settings: KubernetesConfig, steps: Sequence[str]) -> list[Patch]:
    """These steps with a GPU in each pod that computes, and on nodes that are kept for pods with GPUs."""
    # Not from the settings as they are: where they ask for GPUs already, the nodes' taint is still to be tolerated.
    none = _gpus(settings, dict.fromkeys(steps, 0))
    some = _gpus(settings, {step: resources_for(settings, step).gpus or 1 for step in steps})
    patches = [_of_job(graph, step, none, some) for step in steps]
    if TRAIN in steps:
        patches.append(_of_mpi_job(graph, none, some))
    return [patch for patch in patches if patch is not None]


def _gpus(settings: KubernetesConfig, wanted: Mapping[str, int]) -> KubernetesConfig:
    more = {
        step: settings.resources.get(step, Resources()).model_copy(update={"gpus": number})
        for step, number in wanted.items()
    }
    return settings.model_copy(update={"resources": {**settings.resources, **more}})


def _of_job(graph: Graph, step: str, before: KubernetesConfig, after: KubernetesConfig) -> Patch | None:
    old, new = (step_objects(graph, graph[step], each)[-1] for each in (before, after))
    spec = _merged(_pod(old), _pod(new))
    return _nested(f"{step}.yaml", old, ("spec", "template"), spec) if spec else None


def _of_cron_job(before: Object, after: Object) -> Patch | None:
    spec = _merged(_pod(before, *CRON_TEMPLATE), _pod(after, *CRON_TEMPLATE))
    return _nested("retrain.yaml", before, CRON_TEMPLATE, spec) if spec else None


def _of_mpi_job(graph: Graph, before: KubernetesConfig, after: KubernetesConfig) -> Patch | None:
    """JSON operations: kustomize knows no merge keys of a custom resource, and would replace whole lists."""
    (old,), (new,) = mpi_objects(graph, before), mpi_objects(graph, after)
    operations: list[Object] = []
    for replica in REPLICAS:
        path = ("spec", "mpiReplicaSpecs", replica, "template")
        operations += _operations("/" + "/".join((*path, "spec")), _pod(old, *path), _pod(new, *path))
    return Patch("mpijob.yaml", old["kind"], old["metadata"]["name"], operations) if operations else None


def _merged(before: Object, after: Object) -> Object:
    """What to merge into the first pod's spec, so that it becomes the second."""
    spec: Object = {}
    for key, _, old, new in _containers(before, after):
        change: Object = {}
        env = [
            {"name": name, "$patch": "delete"} if value is None else value
            for _, name, value in _env_changes(old, new)
        ]
        if env:
            change["env"] = env
        for kind, amounts in _more_devices(old, new).items():
            change.setdefault("resources", {})[kind] = amounts
        if change:
            spec.setdefault(key, []).append({"name": old["name"], **change})
    if _gets_a_device(before, after):
        spec["tolerations"] = [*before.get("tolerations", []), GPU_TOLERATION]
    return spec


def _operations(path: str, before: Object, after: Object) -> list[Object]:
    """The same for a kind whose lists can only be reached by position; each position is checked before it is used."""
    found: list[Object] = []
    for key, position, old, new in _containers(before, after):
        container = f"{path}/{key}/{position}"
        # From the end: what is removed must not move what is still to be changed.
        for index, name, value in reversed(_env_changes(old, new)):
            at = f"{container}/env/{index}"
            found.append({"op": "test", "path": f"{at}/name", "value": name})
            found.append(
                {"op": "remove", "path": at}
                if value is None
                else {"op": "replace", "path": at, "value": value}
            )
        for kind, amounts in _more_devices(old, new).items():
            found += [
                {
                    "op": "add",
                    "path": f"{container}/resources/{kind}/{name.replace('/', '~1')}",
                    "value": amount,
                }
                for name, amount in amounts.items()
            ]
    if _gets_a_device(before, after):
        tolerations = [*before.get("tolerations", []), GPU_TOLERATION]
        found.append({"op": "add", "path": f"{path}/tolerations", "value": tolerations})
    return found


def _containers(before: Object, after: Object) -> Iterator[tuple[str, int, Object, Object]]:
    for key in ("initContainers", "containers"):
        for position, old in enumerate(before.get(key, [])):
            yield key, position, old, after[key][position]


def _env_changes(before: Object, after: Object) -> list[tuple[int, str, Object | None]]:
    """Position, name and new entry of each variable that differs; None where it goes."""
    new = {each["name"]: each for each in after["env"]}
    return [
        (index, each["name"], new.get(each["name"]))
        for index, each in enumerate(before["env"])
        if new.get(each["name"]) != each
    ]


def _more_devices(before: Object, after: Object) -> Object:
    """Requests and limits of devices (`vendor/device`) that differ; the others do not follow from a device."""
    found = {
        kind: {
            name: amount
            for name, amount in after["resources"][kind].items()
            if "/" in name and before["resources"][kind].get(name) != amount
        }
        for kind in ("requests", "limits")
    }
    return {kind: amounts for kind, amounts in found.items() if amounts}


def _gets_a_device(before: Object, after: Object) -> bool:
    return any(_more_devices(old, new) for _, _, old, new in _containers(before, after))


def _nested(file: str, whole: Object, path: Sequence[str], spec: Object) -> Patch:
    inner: Object = {"spec": spec}
    for key in reversed(path):
        inner = {key: inner}
    name = whole["metadata"]["name"]
    head = {"apiVersion": whole["apiVersion"], "kind": whole["kind"], "metadata": {"name": name}}
    return Patch(file, whole["kind"], name, {**head, **inner})


def _pod(whole: Object, *path: str) -> Object:
    found = whole
    for key in path or ("spec", "template"):
        found = found[key]
    spec: Object = found["spec"]
    return spec
