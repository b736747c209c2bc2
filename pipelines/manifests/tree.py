"""The files of manifests/: path → text."""

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from components.cluster import network
from components.cluster.config import KubernetesConfig, Resources
from components.cluster.jobs import metadata
from components.cluster.names import labels
from components.cluster.pods import Object, placement_env, resources
from components.cluster.rbac import LAUNCHER, STEP, STORAGE, role_rules
from pipelines.graph import Graph
from pipelines.manifests.overlays import HEAD, OVERLAYS
from pipelines.manifests.retrain import cron_job
from pipelines.manifests.steps import job_name, mpi_objects, step_objects
from pipelines.manifests.storage import setup_job, storage_objects

WRITTEN = "# Written by `conveyor manifests` from the table of steps (pipelines/graph.py): not to be edited, but patched.\n"
EXCEPTIONS = """\
# kube-score: run with --ignore-container-cpu-limit, since a CPU limit would only slow a step down (quotas may ask for one:
# kubernetes.resources.<step>.cpu_limit); container-image-pull-policy is ignored where images have fixed tags.
"""
GPU_STEPS = ("train", "evaluate", "compress")
PODS = ("Job", "CronJob", "StatefulSet", "MPIJob")
GPU_TOLERATION = {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
COMPONENT = "apiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component\n"
MPI_REFERENCES = """\
# Where an MPIJob names a ConfigMap: kustomize knows that of Kubernetes' own kinds only.
nameReference:
  - kind: ConfigMap
    version: v1
    fieldSpecs:
      - {kind: MPIJob, path: spec/mpiReplicaSpecs/Launcher/template/spec/volumes/configMap/name}
      - {kind: MPIJob, path: spec/mpiReplicaSpecs/Worker/template/spec/volumes/configMap/name}
"""


class _Dumper(yaml.SafeDumper):
    """No anchors: a person reads it."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def dump(objects: Sequence[Object]) -> str:
    pods = any(each["kind"] in PODS for each in objects)
    return WRITTEN + EXCEPTIONS * pods + yaml.dump_all(objects, Dumper=_Dumper, sort_keys=False, width=120)


def generated(graph: Graph, settings: KubernetesConfig) -> dict[str, str]:
    """What is written anew every time."""
    found: dict[str, str] = {}
    _folder(
        found,
        "common",
        {
            "accounts": [account(STEP)],
            "network": [network.all_closed(), network.names_resolved(), network.training_together()],
        },
    )
    steps = {step.name: step_objects(graph, step, settings) for step in graph}
    _folder(found, "base", steps, also=("../common",))
    _folder(
        found,
        "storage",
        {
            "accounts": [account(STORAGE)],
            "storage": storage_objects(settings),
            "setup": [setup_job(settings)],
            "network": network.store_inside(),
        },
    )
    _folder(found, "network-s3", {"network": [network.store_outside([443])]})
    _folder(
        found,
        "retrain",
        {
            "accounts": [account(LAUNCHER, token=False), *role(LAUNCHER)],
            "cronjob": [cron_job(settings)],
            "network": [network.launcher_to_api()],
        },
        also=("../common",),
    )
    _pod_identity(found, graph, settings)
    _gpu(found, settings)
    found["mpijob/train.yaml"] = dump(mpi_objects(graph, settings))
    found["mpijob/references.yaml"] = MPI_REFERENCES
    found["mpijob/kustomization.yaml"] = (
        f"{WRITTEN}{COMPONENT}resources: [train.yaml]\nconfigurations: [references.yaml]\npatches:\n"
        + "".join(
            f"  - patch: |\n      $patch: delete\n      apiVersion: {version}\n      kind: {kind}\n"
            f"      metadata: {{name: {job_name('train')}}}\n"
            for version, kind in (("batch/v1", "Job"), ("v1", "Service"))
        )
    )
    return found


def started(settings: KubernetesConfig) -> dict[str, str]:
    """What is written once and then belongs to whoever runs it."""
    found = {}
    for overlay in OVERLAYS:
        found[f"overlays/{overlay.name}/kustomization.yaml"] = overlay.kustomization(settings.image)
        found[f"overlays/{overlay.name}/config.yaml"] = overlay.config
    return found


def account(name: str, *, token: bool = False) -> Object:
    """A ServiceAccount; pods that use the API mount its token themselves."""
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": metadata(name, labels("account")),
        "automountServiceAccountToken": token,
    }


def role(name: str) -> list[Object]:
    """The account's rights, within its namespace."""
    api = "rbac.authorization.k8s.io"
    return [
        {
            "apiVersion": f"{api}/v1",
            "kind": "Role",
            "metadata": metadata(name, labels("account")),
            "rules": role_rules(name),
        },
        {
            "apiVersion": f"{api}/v1",
            "kind": "RoleBinding",
            "metadata": metadata(name, labels("account")),
            "roleRef": {"apiGroup": api, "kind": "Role", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": name}],
        },
    ]


def _folder(
    found: dict[str, str],
    name: str,
    files: Mapping[str, Sequence[Object]],
    *,
    also: Sequence[str] = (),
) -> None:
    names = [*also, *(f"{file}.yaml" for file in files)]
    found[f"{name}/kustomization.yaml"] = (
        WRITTEN + HEAD + "resources:\n" + "".join(f"  - {each}\n" for each in names)
    )
    for file, objects in files.items():
        found[f"{name}/{file}.yaml"] = dump(objects)


def _pod_identity(found: dict[str, str], graph: Graph, settings: KubernetesConfig) -> None:
    """No Secret in any pod; the identity's agent on the node is reached instead."""
    patches = []
    for name in graph.names():
        waiting = [
            each["name"] for each in _pod(step_objects(graph, graph[name], settings)[-1])["initContainers"]
        ]
        none = [{"name": variable, "$patch": "delete"} for variable in _from_secret(graph, name, settings)]
        spec: Object = {
            "initContainers": [{"name": each, "env": none} for each in waiting],
            "containers": [{"name": "conveyor", "env": none}],
        }
        patches.append(_patch(name, spec))
    found["pod-identity/patches.yaml"] = dump(patches)
    found["pod-identity/network.yaml"] = dump([network.pod_identity()])
    found["pod-identity/kustomization.yaml"] = (
        f"{WRITTEN}{COMPONENT}resources: [network.yaml]\npatches:\n  - path: patches.yaml\n"
    )


def _from_secret(graph: Graph, step: str, settings: KubernetesConfig) -> list[str]:
    env = _pod(step_objects(graph, graph[step], settings)[-1])["containers"][0]["env"]
    return [each["name"] for each in env if "secretKeyRef" in each.get("valueFrom", {})]


def _gpu(found: dict[str, str], settings: KubernetesConfig) -> None:
    patches = []
    for step in GPU_STEPS:
        given = settings.resources.get(step, Resources())
        gpus = given.gpus or 1
        with_gpu = settings.model_copy(
            update={"resources": {**settings.resources, step: given.model_copy(update={"gpus": gpus})}}
        )
        values = resources(with_gpu, step)
        container: Object = {
            "name": "conveyor",
            "env": [
                {"name": k, "value": v}
                for k, v in placement_env(with_gpu, step).items()
                if k.endswith("GPUS")
            ],
            "resources": {
                kind: {name: value for name, value in values[kind].items() if "/" in name}
                for kind in ("requests", "limits")
            },
        }
        patches.append(_patch(step, {"tolerations": [GPU_TOLERATION], "containers": [container]}))
    found["gpu/patches.yaml"] = dump(patches)
    found["gpu/kustomization.yaml"] = f"{WRITTEN}{COMPONENT}patches:\n  - path: patches.yaml\n"


def _patch(step: str, spec: Object) -> Object:
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": job_name(step)},
        "spec": {"template": {"spec": spec}},
    }


def _pod(job: Object) -> Object:
    found: Object = job["spec"]["template"]["spec"]
    return found
