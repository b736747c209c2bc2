"""The compiled Kubeflow pipeline: parameters, edges, outputs, and what must not be in it."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.cluster.config import KubernetesConfig, resources_for
from components.common.errors import InputError
from components.common.kubeflow import STOP
from components.train.kubeflow import run_train
from pipelines.config import read_config
from pipelines.graph import GRAPH
from pipelines.kubeflow.files import write_manifest, write_yaml
from pipelines.kubeflow.form import form_values
from pipelines.kubeflow.task import REPORT, STOP_COMMAND, not_settable, retry_time_s
from pipelines.parameters import PARAMETERS


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    path = tmp_path_factory.mktemp("kfp") / "conveyor.yaml"
    write_yaml(GRAPH, path, image="registry.example/conveyor:1")
    return read(path)


def read(path: Path) -> list[Any]:
    return list(yaml.safe_load_all(path.read_text()))


def compiled(path: Path, text: str, **more: Any) -> list[Any]:
    """The two documents of the pipeline compiled with that config."""
    config = read_config(GRAPH, text=text)
    write_yaml(GRAPH, path, kubernetes=config.kubernetes, defaults=form_values(config), **more)
    return read(path)


def steps(documents: list[Any]) -> dict[str, Any]:
    """The tasks that are steps: all but the one that reports."""
    tasks: dict[str, Any] = documents[0]["components"]["comp-exit-handler-1"]["dag"]["tasks"]
    return tasks


def pods(documents: list[Any]) -> dict[str, Any]:
    """Step → what kfp-kubernetes sets on its pod."""
    found: dict[str, Any] = documents[1]["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    return {name.removeprefix("exec-"): pod for name, pod in found.items()}


def containers(documents: list[Any]) -> dict[str, Any]:
    found: dict[str, Any] = documents[0]["deploymentSpec"]["executors"]
    return {name.removeprefix("exec-"): executor["container"] for name, executor in found.items()}


def environment(container: Any) -> dict[str, str]:
    return {variable["name"]: variable["value"] for variable in container["env"]}


def test_the_form_has_types_defaults_and_descriptions(documents: list[Any]) -> None:
    form = documents[0]["root"]["inputDefinitions"]["parameters"]
    assert set(form) == {parameter.name for parameter in PARAMETERS}
    assert form["epochs"]["parameterType"] == "NUMBER_INTEGER"
    assert form["epochs"]["defaultValue"] == 0
    assert "isOptional" not in form["store"]
    assert all(parameter["description"] for parameter in form.values())


def test_every_row_is_a_task_with_its_edges(documents: list[Any]) -> None:
    assert set(steps(documents)) == set(GRAPH.names())
    for step in GRAPH:
        artifacts = steps(documents)[step.name]["inputs"].get("artifacts", {})
        assert {
            field: source["taskOutputArtifact"]["producerTask"] for field, source in artifacts.items()
        } == dict(step.inputs)


def test_the_report_comes_last_whatever_became_of_the_steps(documents: list[Any]) -> None:
    tasks = documents[0]["root"]["dag"]["tasks"]
    assert set(tasks) == {"exit-handler-1", REPORT}
    last = tasks[REPORT]
    assert last["dependentTasks"] == ["exit-handler-1"]
    assert last["triggerPolicy"] == {"strategy": "ALL_UPSTREAM_TASKS_COMPLETED"}
    assert last["inputs"]["parameters"]["status"] == {"taskFinalStatus": {"producerTask": "exit-handler-1"}}
    # Whether there may be training to end in other pods.
    pods = {"componentInputParameter": "training_pods"}
    assert last["inputs"]["parameters"]["training_pods"] == pods
    outputs = documents[0]["components"][f"comp-{REPORT}"]["outputDefinitions"]["artifacts"]
    assert outputs["page"]["artifactType"]["schemaTitle"] == "system.HTML"
    assert outputs["metrics"]["artifactType"]["schemaTitle"] == "system.Metrics"


def test_every_form_field_reaches_a_step(documents: list[Any]) -> None:
    used = set()
    for task in steps(documents).values():
        for source in task["inputs"]["parameters"].values():
            used.add(str(source.get("componentInputParameter")).removeprefix("pipelinechannel--"))
    assert {parameter.name for parameter in PARAMETERS} <= used


def test_kubeflows_cache_is_off_and_failures_are_retried(documents: list[Any]) -> None:
    for task in [*steps(documents).values(), documents[0]["root"]["dag"]["tasks"][REPORT]]:
        assert task["cachingOptions"] == {}
        assert task["retryPolicy"]["maxRetryCount"] == KubernetesConfig().retries
        assert task["retryPolicy"]["backoffDuration"] == "30s"
        assert task["retryPolicy"]["backoffFactor"] == 2.0
        # The time for all tries together, of which each may take the whole limit.
        assert task["retryPolicy"]["backoffMaxDuration"] == f"{4 * 86400 + 30 + 60 + 120}s"


def test_there_is_time_for_every_try() -> None:
    assert retry_time_s(KubernetesConfig(retries=1, deadline_s=7200)) == 2 * 7200 + 30
    assert retry_time_s(KubernetesConfig(deadline_s=None)) == 30 * 86400
    assert retry_time_s(KubernetesConfig(retries=100, deadline_s=60)) < 31 * 86400  # no overflow in Go


def test_every_container_has_the_image_and_logs_as_json(documents: list[Any]) -> None:
    assert set(containers(documents)) == {*GRAPH.names(), REPORT}
    for container in containers(documents).values():
        assert container["image"] == "registry.example/conveyor:1"
        assert environment(container)["CONVEYOR_IMAGE"] == "registry.example/conveyor:1"
        assert environment(container)["CONVEYOR_LOG_FORMAT"] == "json"
        assert environment(container)["PYTHONUNBUFFERED"] == "1"


def test_credentials_come_from_a_secret_only(documents: list[Any]) -> None:
    assert set(pods(documents)) == {*GRAPH.names(), REPORT}
    for name, pod in pods(documents).items():
        secret, *more = pod["secretAsEnv"]
        assert [each["secretName"] for each in more] == (["conveyor-webhook"] if name == REPORT else [])
        assert all(each["optional"] for each in (secret, *more))
        assert secret["secretName"] == KubernetesConfig().secret
        assert {each["secretKey"]: each["envVar"] for each in secret["keyToEnv"]} == {
            "access-key": "AWS_ACCESS_KEY_ID",
            "secret-key": "AWS_SECRET_ACCESS_KEY",
            "session-token": "AWS_SESSION_TOKEN",
        }
    form = documents[0]["root"]["inputDefinitions"]["parameters"]
    assert not any(word in name for name in form for word in ("key", "secret", "password", "token"))


def test_every_pod_is_non_root_with_limits(documents: list[Any]) -> None:
    for name, pod in pods(documents).items():
        assert pod["securityContext"] == {
            "runAsUser": "10001",
            "runAsGroup": "10001",
            "runAsNonRoot": True,
        }
        assert pod["activeDeadlineSeconds"] == str(KubernetesConfig().deadline_s)
        assert pod["podMetadata"]["labels"]["app.kubernetes.io/component"] == name
        mounted = {mount["mountPath"]: mount for mount in pod["emptyDirMounts"]}
        assert mounted["/tmp"]["sizeLimit"]
        assert ("/dev/shm" in mounted) == (name == "train")
    for name, container in containers(documents).items():
        given = container["resources"]
        wanted = resources_for(KubernetesConfig(), name)
        assert given["resourceMemoryRequest"] == given["resourceMemoryLimit"] == wanted.memory
        assert given["resourceCpuRequest"] == wanted.cpu
        assert "resourceCpuLimit" not in given
        assert "accelerator" not in given


PLACED = """
kubernetes:
  image: registry.example/conveyor:2
  image_pull_policy: Always
  image_pull_secrets: [registry]
  secret: ""
  retries: 0
  deadline_s: null
  labels: {team: vision}
  annotations: {note: hello}
  node_selector: {pool: gpu}
  tolerations: [{key: nvidia.com/gpu, operator: Exists, effect: NoSchedule, tolerationSeconds: 60}]
  affinity:
    nodeAffinity:
      requiredDuringSchedulingIgnoredDuringExecution:
        nodeSelectorTerms: [{matchExpressions: [{key: zone, operator: In, values: [a]}]}]
  env: {HTTPS_PROXY: "http://proxy.example:3128"}
  shm_size: 1Gi
  mounts:
    - {name: images, path: /images, claim: photos, read_only: false}
    - {name: ca, path: /ca, config_map: ca}
    - {name: more, path: /more, secret: more}
  resources:
    default: {cpu: 1, memory: 1.5Gi}
    train: {cpu: 4, cpu_limit: "8", memory: 16Gi, gpus: 2, disk: 50Gi}
"""


def test_where_and_how_pods_run_comes_from_the_config(tmp_path: Path) -> None:
    documents = compiled(tmp_path / "placed.yaml", PLACED)
    for name, pod in pods(documents).items():
        assert ("secretAsEnv" in pod) == (name == REPORT)  # the webhook's, which is none of the store's
        assert "activeDeadlineSeconds" not in pod
        assert pod["imagePullPolicy"] == "Always"
        assert pod["imagePullSecret"][0]["secretName"] == "registry"
        assert pod["podMetadata"]["labels"]["team"] == "vision"
        assert pod["podMetadata"]["annotations"] == {"note": "hello", STOP_COMMAND: json.dumps(STOP)}
        assert pod["nodeSelector"] == {"labels": {"pool": "gpu"}}
        assert pod["tolerations"] == [
            {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule", "tolerationSeconds": "60"}
        ]
        assert "nodeSelectorTerms" in str(pod["nodeAffinity"])
        assert pod["pvcMount"][0]["mountPath"] == "/images"
        assert pod["configMapAsVolume"][0]["mountPath"] == "/ca"
        assert pod["secretAsVolume"][0]["mountPath"] == "/more"
        assert environment(containers(documents)[name])["HTTPS_PROXY"] == "http://proxy.example:3128"
        assert containers(documents)[name]["image"] == "registry.example/conveyor:2"
    assert all("retryPolicy" not in task for task in steps(documents).values())
    train, ingest = containers(documents)["train"], containers(documents)["ingest"]
    assert train["resources"]["resourceMemoryLimit"] == "16Gi"
    assert train["resources"]["resourceCpuLimit"] == "8"
    assert train["resources"]["accelerator"] == {
        "resourceType": "nvidia.com/gpu",
        "type": "nvidia.com/gpu",
        "resourceCount": "2",
        "count": "2",
    }
    assert environment(train)["CONVEYOR_CORES"] == "8"
    assert environment(train)["CONVEYOR_GPUS"] == "2"
    assert ingest["resources"]["resourceMemoryLimit"] == str(3 * 2**29)
    assert "accelerator" not in ingest["resources"]
    sizes = {mount["mountPath"]: mount["sizeLimit"] for mount in pods(documents)["train"]["emptyDirMounts"]}
    assert sizes == {"/tmp": "50Gi", "/dev/shm": "1Gi"}


def test_where_others_train_the_train_tasks_pod_only_follows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = """
kubernetes:
  training: {pods: 2}
  resources: {train: {cpu: 8, memory: 32Gi, gpus: 1}}
  placement: {train: {node_selector: {pool: gpu}}}
"""
    documents = compiled(tmp_path / "p.yaml", text)
    train = containers(documents)["train"]
    assert train["resources"]["resourceMemoryLimit"] == resources_for(KubernetesConfig(), "launcher").memory
    assert "accelerator" not in train["resources"]
    assert "nodeSelector" not in pods(documents)["train"]
    assert [mount["mountPath"] for mount in pods(documents)["train"]["emptyDirMounts"]] == ["/tmp"]
    assert "CONVEYOR_FOLLOWS_ONLY" not in environment(containers(documents)["evaluate"])
    # Such a pod refuses to train, before it looks at anything else.
    monkeypatch.setenv("CONVEYOR_FOLLOWS_ONLY", environment(train)["CONVEYOR_FOLLOWS_ONLY"])
    with pytest.raises(InputError, match="trains in several pods") as refused:
        run_train("train", "components.train", read_config(GRAPH, text=""), {}, run_id="r")
    assert "training_pods" in str(refused.value)


def test_what_kubeflow_cannot_set_is_told() -> None:
    config = read_config(
        GRAPH,
        text="kubernetes: {priority_class: high, queue: q, affinity: {podAntiAffinity: {}}, "
        "mounts: [{name: i, path: /i, claim: c}]}",
    )
    assert not_settable(config.kubernetes) == [
        "priority_class",
        "queue",
        "affinity.podAntiAffinity",
        "mounts: i is mounted read-only",
    ]
    assert not_settable(KubernetesConfig()) == []


def test_what_a_config_sets_fills_the_form_each_setting_in_one_place(tmp_path: Path) -> None:
    text = (
        "store: {url: s3://b/p, region: eu-1}\ntrain: {epochs: 7, batch_size: 32}\ningest: {source: s3://b/i}"
    )
    form = compiled(tmp_path / "a.yaml", text)[0]["root"]["inputDefinitions"]["parameters"]
    assert form["store"]["defaultValue"] == "s3://b/p"
    assert form["epochs"]["defaultValue"] == 7
    assert form["source"]["defaultValue"] == "s3://b/i"
    assert form["model"]["defaultValue"] == ""
    rest = yaml.safe_load(form["config"]["defaultValue"])
    assert rest == {"store": {"region": "eu-1"}, "train": {"batch_size": 32}}


def test_outputs_are_what_the_interface_can_show(documents: list[Any]) -> None:
    def types(step: str) -> dict[str, str]:
        artifacts = documents[0]["components"][f"comp-{step}"]["outputDefinitions"]["artifacts"]
        return {name: spec["artifactType"]["schemaTitle"] for name, spec in artifacts.items()}

    for step in GRAPH.names():
        assert types(step)["reference"] == "system.Artifact"
        assert types(step)["metrics"] == "system.Metrics"
    assert types("evaluate")["classification"] == "system.ClassificationMetrics"
    assert types("evaluate")["report"] == "system.HTML"
    assert types("preprocess")["contact_sheet"] == "system.HTML"


def test_the_objects_for_kubectl_hold_the_same_pipeline(tmp_path: Path, documents: list[Any]) -> None:
    path = tmp_path / "manifest.yaml"
    write_manifest(GRAPH, path, image="registry.example/conveyor:1", namespace="kf")
    pipeline, version = read(path)
    for each in (pipeline, version):
        assert each["apiVersion"] == "pipelines.kubeflow.org/v2beta1"
        assert each["metadata"]["namespace"] == "kf"
    assert (pipeline["kind"], pipeline["metadata"]["name"]) == ("Pipeline", "conveyor")
    assert version["kind"] == "PipelineVersion"
    assert version["spec"]["pipelineName"] == "conveyor"
    assert version["metadata"]["name"].startswith("conveyor-")
    assert version["spec"]["pipelineSpec"] == documents[0]
    assert version["spec"]["platformSpec"] == documents[1]
    write_manifest(GRAPH, path, image="registry.example/conveyor:2", namespace="kf")
    assert read(path)[1]["metadata"]["name"] != version["metadata"]["name"]


def test_the_compiled_pipeline_is_the_published_format(documents: list[Any]) -> None:
    from google.protobuf import json_format  # type: ignore[import-untyped]
    from kfp.kubernetes import kubernetes_executor_config_pb2
    from kfp.pipeline_spec import pipeline_spec_pb2

    json_format.ParseDict(documents[0], pipeline_spec_pb2.PipelineSpec())
    for pod in pods(documents).values():
        json_format.ParseDict(pod, kubernetes_executor_config_pb2.KubernetesExecutorConfig())


def test_the_command_writes_both_formats(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from pipelines.cli import invoke

    (tmp_path / "c.yaml").write_text("train: {epochs: 3}\nkubernetes: {queue: q}")
    out = str(tmp_path / "p.yaml")
    assert invoke(["compile", "-f", str(tmp_path / "c.yaml"), "--store", "s3://b/p", "-o", out]) == 0
    captured = capsys.readouterr()
    assert captured.out == f"{out}\n"
    assert "kubernetes.queue" in captured.err
    form = read(Path(out))[0]["root"]["inputDefinitions"]["parameters"]
    assert (form["store"]["defaultValue"], form["epochs"]["defaultValue"]) == ("s3://b/p", 3)
    assert invoke(["compile", "--format", "manifest", "--namespace", "kf", "-o", out]) == 0
    assert [each["kind"] for each in read(Path(out))] == ["Pipeline", "PipelineVersion"]
    assert invoke(["compile", "--set", "train.epoch=3", "-o", out]) == 2
    assert "did you mean train.epochs?" in capsys.readouterr().err


def test_compiling_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_yaml(GRAPH, tmp_path / f"{name}.yaml")
    assert (tmp_path / "a.yaml").read_bytes() == (tmp_path / "b.yaml").read_bytes()
