"""The files of manifests/: path → text."""

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from components.cluster import network
from components.cluster.config import KubernetesConfig
from components.cluster.jobs import TRAIN, metadata
from components.cluster.names import labels
from components.cluster.pods import Object
from components.cluster.rbac import LAUNCHER, STEP, STORAGE, role_rules
from pipelines.graph import Graph
from pipelines.manifests.changes import Patch, with_gpu, without_secret
from pipelines.manifests.names import KUSTOMIZATION
from pipelines.manifests.overlays import HEAD, OVERLAYS
from pipelines.manifests.retrain import cron_job
from pipelines.manifests.steps import mpi_objects, step_objects
from pipelines.manifests.storage import setup_job, storage_objects

WRITTEN = "# Written by `conveyor manifests` from the table of steps (pipelines/graph.py): not to be edited, but patched.\n"
EXCEPTIONS = """\
# kube-score: run with --ignore-container-cpu-limit, since a CPU limit would only slow a step down (quotas may ask for one:
# kubernetes.resources.<step>.cpu_limit); container-image-pull-policy is ignored where images have fixed tags.
"""
PODS = ("Job", "CronJob", "StatefulSet", "MPIJob")
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
    _folder(found, "base", steps)
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
            "cronjob": [cron_job(graph, settings)],
            "network": [network.launcher_to_api()],
        },
    )
    folders = {
        "pod-identity": _component(without_secret(graph, settings), {"network": [network.pod_identity()]}),
        "gpu": _component(with_gpu(graph, settings, [TRAIN])),
        "gpu-evaluate-compress": _component(with_gpu(graph, settings, ["evaluate", "compress"])),
        "mpijob": _mpijob(graph, settings),
    }
    for folder, files in folders.items():
        for file, text in files.items():
            found[f"{folder}/{file}"] = text
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


def _folder(found: dict[str, str], name: str, files: Mapping[str, Sequence[Object]]) -> None:
    found[f"{name}/{KUSTOMIZATION}"] = (
        WRITTEN + HEAD + "resources:\n" + "".join(f"  - {file}.yaml\n" for file in files)
    )
    for file, objects in files.items():
        found[f"{name}/{file}.yaml"] = dump(objects)


def _component(
    patches: Sequence[Patch], files: Mapping[str, Sequence[Object]] | None = None
) -> dict[str, str]:
    """A kustomize component of objects of its own and of patches, each with its target: no match is no error."""
    text = WRITTEN + COMPONENT
    found: dict[str, str] = {}
    for name, objects in (files or {}).items():
        found[f"{name}.yaml"] = dump(objects)
    if found:
        text += "resources:\n" + "".join(f"  - {file}\n" for file in found)
    text += "patches:\n" * bool(patches)
    for patch in patches:
        content = patch.content
        found[patch.file] = WRITTEN + yaml.dump(content, Dumper=_Dumper, sort_keys=False, width=120)
        text += f"  - path: {patch.file}\n    target: {{kind: {patch.kind}, name: {patch.name}}}\n"
    return {**found, KUSTOMIZATION: text}


def _mpijob(graph: Graph, settings: KubernetesConfig) -> dict[str, str]:
    """The base with another training."""
    replaced = step_objects(graph, graph[TRAIN], settings)
    return {
        "train.yaml": dump(mpi_objects(graph, settings)),
        "references.yaml": MPI_REFERENCES,
        KUSTOMIZATION: f"{WRITTEN}{HEAD}resources:\n  - ../base\n  - train.yaml\nconfigurations: [references.yaml]\npatches:\n"
        + "".join(
            f"  - patch: |\n      $patch: delete\n      apiVersion: {each['apiVersion']}\n      kind: {each['kind']}\n"
            f"      metadata: {{name: {each['metadata']['name']}}}\n"
            for each in reversed(replaced)
        ),
    }
