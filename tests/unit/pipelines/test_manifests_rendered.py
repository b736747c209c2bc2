"""The overlays as kubectl applies them: what refers to what, what is closed and what is open, what kube-score says."""

import subprocess
from dataclasses import replace

import pytest

from components.cluster.rbac import RULES
from support import flows
from support.network_policy import Host, Pod, allows
from support.rendered import OVERLAYS, Object, objects, rendered, templates, tool

NAMESPACE = "photos"


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_everything_that_is_named_is_there(overlay: str) -> None:
    there = {(each["kind"], each["metadata"]["name"]) for each in objects(overlay)}
    for name, template in templates(overlay):
        spec = template["spec"]
        assert ("ServiceAccount", spec["serviceAccountName"]) in there, name
        for volume in spec.get("volumes", []):
            if "configMap" in volume:
                assert ("ConfigMap", volume["configMap"]["name"]) in there, name
        if "subdomain" in spec:
            assert ("Service", spec["subdomain"]) in there, name


@pytest.mark.parametrize("overlay", [name for name in OVERLAYS if "retrain" not in name])
def test_names_and_labels_explain_themselves(overlay: str) -> None:
    jobs = [each for each in objects(overlay) if each["kind"] in ("Job", "MPIJob")]
    (run,) = {each["metadata"]["labels"]["conveyor/run"] for each in jobs}
    digest = run.removeprefix("conveyor-")
    for job in jobs:
        step = job["metadata"]["labels"]["app.kubernetes.io/component"]
        assert job["metadata"]["name"] == f"conveyor-{step}-{digest}"
    for _, template in templates(overlay):
        labels = template["metadata"]["labels"]
        assert labels["app.kubernetes.io/part-of"] == "conveyor"
        assert labels.get("conveyor/run", run) == run


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_one_image_for_all_and_the_launcher_knows_it(overlay: str) -> None:
    containers = [
        container
        for _, template in templates(overlay)
        for key in ("initContainers", "containers")
        for container in template["spec"].get(key, [])
    ]
    (image,) = {each["image"] for each in containers if not each["image"].startswith("minio/")}
    assert image in ("conveyor:cpu", "conveyor:cuda", "conveyor:mpi")
    for container in containers:
        for variable in container["env"]:
            if variable["name"] == "CONVEYOR_IMAGE":
                assert variable["value"] == image


def test_an_mpi_job_takes_the_place_of_the_indexed_one() -> None:
    kinds = {each["kind"]: each for each in objects("mpijob") if "train" in each["metadata"]["name"]}
    assert "MPIJob" in kinds
    assert "Job" not in kinds
    assert "Service" not in kinds


def test_the_schedule_runs_one_at_a_time() -> None:
    (cron,) = [each for each in objects("retrain") if each["kind"] == "CronJob"]
    spec = cron["spec"]
    assert spec["jobTemplate"]["spec"]["activeDeadlineSeconds"] > 86400, (
        "a tick that hangs keeps out all others"
    )
    assert spec["concurrencyPolicy"] == "Forbid"
    assert spec["timeZone"]
    assert spec["startingDeadlineSeconds"] >= 100, "else the controller may never start one"
    assert {"successfulJobsHistoryLimit", "failedJobsHistoryLimit"} <= set(spec)
    assert "ttlSecondsAfterFinished" not in spec["jobTemplate"]["spec"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_accounts_have_no_token_but_where_the_api_is_used(overlay: str) -> None:
    for name, template in templates(overlay):
        account = template["spec"]["serviceAccountName"]
        assert account in RULES, name
        assert template["spec"]["automountServiceAccountToken"] is bool(RULES[account]), name


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_kube_score_has_no_complaint(overlay: str) -> None:
    # A CPU limit would only slow steps down: requests share the cores out.
    command = [tool("kube-score"), "score", "--ignore-container-cpu-limit", "-o", "ci", "-"]
    done = subprocess.run(command, input=rendered(overlay), capture_output=True, text=True, check=False)
    complaints = [line for line in done.stdout.splitlines() if line.startswith(("[CRITICAL", "[WARNING"))]
    assert not complaints
    assert done.returncode == 0, done.stderr


# --- flows: nothing enforces policies where these tests run, so they are evaluated as Kubernetes documents them ---------

DNS = Pod({"k8s-app": "kube-dns"}, "kube-system", "10.0.0.53")
STRANGER = Pod({"app": "stranger"}, NAMESPACE, "10.0.0.66")
FOREIGN = Pod({"app.kubernetes.io/part-of": "conveyor"}, "other", "10.0.0.67")
S3 = Host("52.216.0.1")
API = Host("172.18.0.2")
METADATA = (Host("169.254.169.254"), Host("fd00:ec2::254"))
EKS_AGENT = (Host("169.254.170.23"), Host("fd00:ec2::23"))


def pods(overlay: str) -> dict[str, Pod]:
    """One for each component; two training pods, since they talk to each other."""
    found = {}
    for _, template in templates(overlay):
        labels = template["metadata"]["labels"]
        found[labels["app.kubernetes.io/component"]] = Pod(labels, NAMESPACE)
    if "train" in found:
        found["train-2"] = Pod(found["train"].labels, NAMESPACE, "10.0.0.11")
    return found


def policies(overlay: str) -> list[Object]:
    found = [each for each in objects(overlay) if each["kind"] == "NetworkPolicy"]
    return [{**each, "metadata": {**each["metadata"], "namespace": NAMESPACE}} for each in found]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_pod_is_closed_but_for_dns(overlay: str) -> None:
    rules = policies(overlay)
    for name, pod in pods(overlay).items():
        assert allows(rules, pod, DNS, 53, "UDP"), name
        assert not allows(rules, STRANGER, pod, 9000), name
        assert not allows(rules, STRANGER, pod, 29400), name
        assert not allows(rules, FOREIGN, pod, 9000), name
        assert not allows(rules, pod, STRANGER, 8080), name
        for credentials in METADATA:
            assert not allows(rules, pod, credentials, 443), name
            assert not allows(rules, pod, credentials, 80), name
        for agent in EKS_AGENT:
            assert allows(rules, pod, agent, 80) is ("pod-identity" in overlay), name


@pytest.mark.parametrize("overlay", [name for name in OVERLAYS if name != "local" and "retrain" not in name])
def test_steps_reach_the_store_outside_and_no_api_server(overlay: str) -> None:
    rules = policies(overlay)
    for name, pod in pods(overlay).items():
        assert allows(rules, pod, S3, 443), name
        assert not allows(rules, pod, S3, 22), name
        assert not allows(rules, pod, API, 6443), name


def test_in_the_local_cluster_nothing_leaves_it() -> None:
    rules, found = policies("local"), pods("local")
    storage = found.pop("storage")
    for name, pod in found.items():
        assert allows(rules, pod, storage, 9000), name
        assert not allows(rules, pod, S3, 443), name
        assert not allows(rules, storage, pod, 9000), name
    assert not allows(rules, storage, S3, 443)


@pytest.mark.parametrize("overlay", ["local", "s3", "mpijob", "gpu"])
def test_training_pods_reach_each_other_on_any_port(overlay: str) -> None:
    rules, found = policies(overlay), pods(overlay)
    for port in (29400, 2222, 41234):
        assert allows(rules, found["train"], found["train-2"], port)
        assert not allows(rules, found["train"], found["ingest"], port)
        assert not allows(rules, found["ingest"], found["train"], port)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_pods_of_a_kubeflow_run_in_the_same_namespace_are_left_alone(overlay: str) -> None:
    """Though they carry our labels: Kubeflow's and Argo's containers in them talk to their own servers."""
    rules, found = policies(overlay), pods(overlay)
    for flow in flows.needed_by_kubeflow():
        assert isinstance(flow.source, Pod)
        source = replace(flow.source, namespace=NAMESPACE)
        assert allows(rules, source, flow.target, flow.port, flow.protocol), flow
        for name, pod in found.items():
            assert not allows(rules, source, pod, 29400), name


def test_the_launcher_reaches_the_api_server() -> None:
    assert allows(policies("retrain"), pods("retrain")["launcher"], API, 6443)
