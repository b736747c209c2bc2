"""Steps or an MPIJob, a schedule, GPUs and pod identity combine in one overlay, in any order."""

import shutil
from itertools import permutations
from pathlib import Path

import pytest
import yaml

from support.rendered import MANIFESTS, Object, combine, objects, templates

GPU = "nvidia.com/gpu"
PODS = 2
"""Of a training."""
COMPONENTS = ("gpu", "pod-identity", "gpu-evaluate-compress")
ORDERS: list[tuple[str, ...]] = [(), *permutations(COMPONENTS, 2), COMPONENTS]
WAYS = {
    "steps": ("base", "network-s3"),
    "mpijob": ("mpijob", "network-s3"),
    "schedule": ("retrain", "network-s3"),
    "all": ("retrain", "mpijob", "storage"),
    "local": ("base", "retrain", "storage"),
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("combined") / "manifests"
    shutil.copytree(MANIFESTS, found)
    return found


@pytest.mark.parametrize("way", WAYS)
def test_in_any_order(root: Path, way: str) -> None:
    for components in ORDERS:
        if "storage" in WAYS[way] and "pod-identity" in components:
            continue  # that storage knows no other identity than the Secret's
        name = combine(root, WAYS[way], components)
        kinds = [(each["kind"], each["metadata"]["name"].split("-")[1]) for each in objects(name, root)]
        assert (("MPIJob", "train") in kinds) is ("mpijob" in WAYS[way]), name
        assert (("Job", "train") in kinds) is ("base" in WAYS[way]), name
        assert (("CronJob", "retrain") in kinds) is ("retrain" in WAYS[way]), name
        expected = {}
        if {"base", "mpijob"} & set(WAYS[way]):
            expected = {"train": PODS} if "gpu" in components else {}
            expected |= {"evaluate": 1, "compress": 1} if "gpu-evaluate-compress" in components else {}
        assert gpus(objects(name, root)) == expected, name
        for pod, template in templates(name, root):
            refers = secrets(template)
            assert ("conveyor-store" in refers) is ("pod-identity" not in components), (name, pod)
            assert ("conveyor-training" in refers) is ("pod-identity" in components and "-train" in pod), (
                name,
                pod,
            )


def test_the_overlay_gpu_needs_as_many_as_training_has_pods() -> None:
    """All pods are there from the start: what waits with a GPU would keep it from the training that it waits for."""
    assert gpus(objects("gpu")) == {"train": PODS}
    for name, template in templates("gpu"):
        tolerates = {GPU} & {each["key"] for each in template["spec"].get("tolerations", [])}
        assert bool(tolerates) is ("train" in name)
        for container in template["spec"]["containers"]:
            env = {each["name"]: each.get("value") for each in container["env"]}
            assert env["CONVEYOR_GPUS"] == ("1" if "train" in name else "0")


@pytest.mark.parametrize("name", ["s3-pod-identity", "retrain-pod-identity"])
def test_pod_identity_needs_no_secret(name: str) -> None:
    for pod, template in templates(name):
        assert secrets(template, optional=False) == set(), pod
    accounts = [each for each in objects(name) if each["kind"] == "ServiceAccount"]
    assert accounts
    assert all(each["metadata"]["annotations"] for each in accounts)
    settings = yaml.safe_load((MANIFESTS / "overlays" / name / "config.yaml").read_text())
    assert settings.get("kubernetes", {}).get("secret", "") == "", (
        "nor have the pods that a launcher makes one"
    )
    assert "conveyor-store" in {each for _, template in templates("s3") for each in secrets(template)}


def gpus(found: list[Object]) -> dict[str, int]:
    """Component → GPUs of all its pods, which exist at once."""
    total: dict[str, int] = {}
    for each in found:
        replicas = (
            [(each["spec"]["template"], each["spec"].get("parallelism", 1))] if each["kind"] == "Job" else []
        )
        if each["kind"] == "MPIJob":
            replicas = [
                (one["template"], one["replicas"]) for one in each["spec"]["mpiReplicaSpecs"].values()
            ]
        for template, number in replicas:
            spec = template["spec"]
            # A pod gets the largest of what its init containers and the sum of its containers ask for.
            wanted = sum(int(one["resources"]["limits"].get(GPU, 0)) for one in spec["containers"])
            assert not any(GPU in one["resources"]["limits"] for one in spec.get("initContainers", []))
            if wanted:
                step = each["metadata"]["labels"]["app.kubernetes.io/component"]
                total[step] = total.get(step, 0) + number * wanted
    return total


def secrets(template: Object, *, optional: bool = True) -> set[str]:
    """Names of the Secrets that a pod's environment comes from; without `optional`, those that it cannot start without."""
    return {
        source["name"]
        for key in ("initContainers", "containers")
        for container in template["spec"].get(key, [])
        for each in container["env"]
        if (source := each.get("valueFrom", {}).get("secretKeyRef"))
        if optional or not source.get("optional")
    }
