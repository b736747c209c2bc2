"""What the builders promise of every pod and Job, whatever the settings."""

from typing import Any

import pytest
from pydantic import ValidationError

from components.cluster.config import (
    KubernetesConfig,
    Placement,
    Resources,
    Security,
    TrainingConfig,
    resources_for,
)
from components.cluster.jobs import (
    config_map,
    launcher_job,
    step_env,
    step_job,
    training_job,
    training_service,
)
from components.cluster.mpi import mpi_job
from components.cluster.names import config_name, job_name, run_name, service_name
from components.cluster.pods import pod_security
from components.train.pods.mpi import ssh_command

KEY = "3f0c92ab51de" + "0" * 52
RICH = KubernetesConfig(
    image="conveyor:test",
    image_pull_secrets=("registry",),
    labels={"team": "vision"},
    annotations={"note": "mine"},
    node_selector={"pool": "gpu"},
    tolerations=({"key": "gpu", "operator": "Exists"},),
    affinity={"podAntiAffinity": {}},
    priority_class="low",
    queue="team-a",
    env={"EXTRA": "1"},
    resources={"train": Resources(cpu=4, cpu_limit=6, memory="16Gi", gpus=1)},
    training=TrainingConfig(pods=3),
)


def all_jobs(settings: KubernetesConfig) -> list[dict[str, Any]]:
    return [
        step_job("conveyor-ingest-1", "ingest", "r1", settings, config_map="c"),
        training_job("conveyor-train-1", "r1", settings, config_map="c"),
        launcher_job("conveyor-run-r1", "r1", settings, config_map="c", command_args=["run"]),
    ]


def templates(settings: KubernetesConfig) -> list[dict[str, Any]]:
    replicas = mpi_job("conveyor-train-1", "r1", settings, config_map="c")["spec"]["mpiReplicaSpecs"]
    return [
        *(job["spec"]["template"] for job in all_jobs(settings)),
        *(replica["template"] for replica in replicas.values()),
    ]


@pytest.mark.parametrize("settings", [KubernetesConfig(), RICH])
def test_every_pod_is_restricted(settings: KubernetesConfig) -> None:
    for template in templates(settings):
        spec = template["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec["enableServiceLinks"] is False
        for container in spec["containers"]:
            security = container["securityContext"]
            assert security["allowPrivilegeEscalation"] is False
            assert security["readOnlyRootFilesystem"] is True
            assert security["capabilities"] == {"drop": ["ALL"]}
            given = container["resources"]
            assert given["requests"]["memory"] == given["limits"]["memory"]
            assert given["requests"]["cpu"]
            assert any(mount["mountPath"] == "/tmp" for mount in container["volumeMounts"])
        for volume in spec["volumes"]:
            assert "hostPath" not in volume
            assert "emptyDir" not in volume or volume["emptyDir"]["sizeLimit"]


def test_only_the_launcher_has_a_token_and_an_account_of_its_own() -> None:
    step, train, launcher = (job["spec"]["template"]["spec"] for job in all_jobs(KubernetesConfig()))
    for spec in (step, train):
        assert spec["automountServiceAccountToken"] is False
        assert spec["serviceAccountName"] == "conveyor-step"
    assert launcher["automountServiceAccountToken"] is True
    assert launcher["serviceAccountName"] == "conveyor-launcher"


def test_every_setting_arrives() -> None:
    step, train, launcher = all_jobs(RICH)
    for job in (step, train, launcher, mpi_job("conveyor-train-1", "r1", RICH, config_map="c")):
        assert job["metadata"]["labels"]["team"] == "vision"
        assert job["metadata"]["annotations"] == {"note": "mine"}
    for job in (step, train, launcher):
        # Never the launcher: it would take the room of what it waits for.
        queue = None if job is launcher else "team-a"
        assert job["metadata"]["labels"].get("kueue.x-k8s.io/queue-name") == queue
    for template in templates(RICH):
        spec, container = template["spec"], template["spec"]["containers"][0]
        assert template["metadata"]["labels"]["sidecar.istio.io/inject"] == "false"
        assert template["metadata"]["annotations"] == {"note": "mine"}
        assert spec["imagePullSecrets"] == [{"name": "registry"}]
        assert spec["nodeSelector"] == {"pool": "gpu"}
        assert spec["tolerations"] == [{"key": "gpu", "operator": "Exists"}]
        assert spec["affinity"] == {"podAntiAffinity": {}}
        assert spec["priorityClassName"] == "low"
        assert container["image"] == "conveyor:test"
        assert {"name": "EXTRA", "value": "1"} in container["env"]
    train = training_job("conveyor-train-1", "r1", RICH, config_map="c")["spec"]["template"]["spec"]
    container = train["containers"][0]
    assert container["resources"]["limits"] == {
        "cpu": "6",
        "memory": "16Gi",
        "ephemeral-storage": "10Gi",
        "nvidia.com/gpu": 1,
    }
    assert {"name": "CONVEYOR_CORES", "value": "6"} in container["env"]
    assert any(volume["name"] == "shm" for volume in train["volumes"])


def test_credentials_come_from_the_secret_only() -> None:
    for template in templates(RICH):
        env = {entry["name"]: entry for entry in template["spec"]["containers"][0]["env"]}
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
            assert env[name]["valueFrom"]["secretKeyRef"]["name"] == "conveyor-store"
    for template in templates(KubernetesConfig(secret="")):
        names = {entry["name"] for entry in template["spec"]["containers"][0]["env"]}
        assert not {name for name in names if name.startswith("AWS_")}


def test_what_counts_against_a_job() -> None:
    step, train, launcher = all_jobs(RICH)
    for job in (step, train, launcher):
        spec = job["spec"]
        assert spec["podReplacementPolicy"] == "Failed"
        assert spec["template"]["spec"]["restartPolicy"] == "Never"
        assert spec["ttlSecondsAfterFinished"] == 86400
        rules = spec["podFailurePolicy"]["rules"]
        assert rules[0] == {
            "action": "Ignore",
            "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}],
        }
    assert _codes(step, "FailJob") == [2, 4]
    assert _codes(train, "FailJob") == [2, 4, 76]
    assert _codes(train, "Ignore") == [75, 130]
    assert _codes(launcher, "FailJob") == [2, 3, 4]


def _codes(job: dict[str, Any], action: str) -> list[int]:
    rules = job["spec"]["podFailurePolicy"]["rules"]
    return next(
        rule["onExitCodes"]["values"] for rule in rules if rule["action"] == action and "onExitCodes" in rule
    )


def test_training_pods_find_each_other() -> None:
    job = training_job("conveyor-train-1", "r1", RICH, config_map="c")
    service = training_service("conveyor-train-1", "r1", RICH)
    spec = job["spec"]
    assert (spec["completions"], spec["parallelism"], spec["completionMode"]) == (3, 3, "Indexed")
    assert spec["template"]["spec"]["subdomain"] == service["metadata"]["name"]
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["publishNotReadyAddresses"] is True
    assert service["spec"]["selector"] == {"batch.kubernetes.io/job-name": job["metadata"]["name"]}
    env = {entry["name"]: entry.get("value") for entry in spec["template"]["spec"]["containers"][0]["env"]}
    assert env["CONVEYOR_TRAIN_PODS"] == "3"
    assert env["CONVEYOR_TRAIN_COORDINATOR"] == "conveyor-train-1-0.conveyor-train-1-pods:29400"


def test_an_indexed_job_and_an_mpi_job_of_one_key_share_no_name() -> None:
    name = job_name("train", KEY)
    service = training_service(name, "r1", RICH)["metadata"]["name"]
    # What mpi-operator v0.7 makes of an MPIJob: Service, ConfigMap, Secret, launcher's Job, workers' pods.
    operators = {name, f"{name}-config", f"{name}-ssh", f"{name}-launcher", f"{name}-worker-0"}
    assert service not in operators
    longest = job_name("x" * 80, KEY)
    assert len(longest) <= 63
    assert len(service_name(longest)) <= 63
    assert service_name(longest) != longest


def test_training_pods_are_as_patient_as_their_launcher() -> None:
    settings = KubernetesConfig(start_timeout_s=30, training=TrainingConfig(pods=2))
    job = training_job("conveyor-train-1", "r1", settings, config_map="c")
    replicas = mpi_job("conveyor-train-1", "r1", settings, config_map="c")["spec"]["mpiReplicaSpecs"]
    for template in (job["spec"]["template"], *(replica["template"] for replica in replicas.values())):
        env = {entry["name"]: entry.get("value") for entry in template["spec"]["containers"][0]["env"]}
        assert env["CONVEYOR_TRAIN_START_TIMEOUT_S"] == "630"


def test_an_mpi_job_leaves_restarts_to_its_replicas() -> None:
    settings = KubernetesConfig(
        training=TrainingConfig(kind="mpi-job", pods=3, min_pods=2), resources={"train": Resources(gpus=2)}
    )
    spec = mpi_job("conveyor-train-1", "r1", settings, config_map="c")["spec"]
    assert spec["runPolicy"]["cleanPodPolicy"] == "Running"
    # Elastic: it must begin without the worker that no node takes.
    assert spec["launcherCreationPolicy"] == "AtStartup"
    static = KubernetesConfig(training=TrainingConfig(kind="mpi-job", pods=3))
    assert (
        mpi_job("t", "r1", static, config_map="c")["spec"]["launcherCreationPolicy"] == "WaitForWorkersReady"
    )
    assert spec["mpiReplicaSpecs"]["Worker"]["replicas"] == 3
    limits = {
        name: replica["template"]["spec"]["containers"][0]["resources"]["limits"].get("nvidia.com/gpu")
        for name, replica in spec["mpiReplicaSpecs"].items()
    }
    assert limits == {"Launcher": None, "Worker": 2}
    for replica in spec["mpiReplicaSpecs"].values():
        assert "restartPolicy" not in replica["template"]["spec"]
        env = {e["name"]: e.get("value") for e in replica["template"]["spec"]["containers"][0]["env"]}
        assert env["CONVEYOR_TRAIN_MIN_PODS"] == "2"


def test_an_mpi_jobs_launcher_reserves_what_a_launcher_needs_and_keys_as_a_worker() -> None:
    settings = KubernetesConfig(
        training=TrainingConfig(kind="mpi-job", pods=2),
        resources={
            "train": Resources(cpu=8, memory="64Gi", disk="200Gi", gpus=4),
            "launcher": Resources(memory="2Gi"),
        },
        placement={"train": Placement(node_selector={"pool": "gpu"})},
    )
    replicas = mpi_job("conveyor-train-1", "r1", settings, config_map="c")["spec"]["mpiReplicaSpecs"]
    launcher, worker = (replicas[name]["template"]["spec"] for name in ("Launcher", "Worker"))
    assert launcher["containers"][0]["resources"] == {
        "requests": {"cpu": "100m", "memory": "2Gi", "ephemeral-storage": "100Mi"},
        "limits": {"memory": "2Gi", "ephemeral-storage": "1Gi"},
    }
    assert worker["containers"][0]["resources"]["requests"]["cpu"] == "8"
    assert "nodeSelector" not in launcher
    assert worker["nodeSelector"] == {"pool": "gpu"}
    for spec in (launcher, worker):
        env = {each["name"]: each.get("value") for each in spec["containers"][0]["env"]}
        assert (env["CONVEYOR_CORES"], env["CONVEYOR_GPUS"]) == ("8", "4")


def test_both_ends_of_ssh_take_the_port_of_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = KubernetesConfig(training=TrainingConfig(kind="mpi-job", pods=2, ssh_port=2022))
    replicas = mpi_job("conveyor-train-1", "r1", settings, config_map="c")["spec"]["mpiReplicaSpecs"]
    launcher, worker = (
        replicas[name]["template"]["spec"]["containers"][0] for name in ("Launcher", "Worker")
    )
    assert worker["command"] == ["/usr/sbin/sshd", "-De", "-p", "2022"]
    assert worker["ports"] == [{"name": "ssh", "containerPort": 2022}]
    for variable in launcher["env"]:
        if "value" in variable:
            monkeypatch.setenv(variable["name"], variable["value"])
    command = ssh_command("conveyor-train-1-worker-0")
    assert command[command.index("-p") + 1] == "2022"
    assert command.index("-p") < command.index("conveyor-train-1-worker-0")


def test_layers_of_placement() -> None:
    settings = KubernetesConfig(
        node_selector={"pool": "cpu"},
        tolerations=({"key": "spot", "operator": "Exists"},),
        affinity={"podAntiAffinity": {}},
        priority_class="low",
        placement={
            "default": Placement(priority_class="middle", affinity={"nodeAffinity": {}}),
            "train": Placement(
                node_selector={"pool": "gpu"}, tolerations=(), affinity={}, runtime_class="nvidia"
            ),
            "launcher": Placement(priority_class=""),
        },
        training=TrainingConfig(pods=3),
    )
    step, train, launcher = (placed(job["spec"]["template"]) for job in all_jobs(settings))
    assert step == {
        "nodeSelector": {"pool": "cpu"},
        "tolerations": [{"key": "spot", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
        "priorityClassName": "middle",
    }
    # A step's own replaces what is beneath, and an empty value takes it away.
    assert train == {
        "nodeSelector": {"pool": "gpu"},
        "priorityClassName": "middle",
        "runtimeClassName": "nvidia",
    }
    # What waits is no part of the default.
    assert launcher == {
        "nodeSelector": {"pool": "cpu"},
        "tolerations": [{"key": "spot", "operator": "Exists"}],
        "affinity": {"podAntiAffinity": {}},
    }


def test_placement_enters_no_key() -> None:
    placed_elsewhere = {"train": Placement(node_selector={"pool": "gpu"}, runtime_class="nvidia")}
    assert step_env("train", KubernetesConfig(placement=placed_elsewhere)) == step_env(
        "train", KubernetesConfig()
    )


def placed(template: dict[str, Any]) -> dict[str, Any]:
    """Where the pod may run, of its whole spec."""
    names = ("nodeSelector", "tolerations", "affinity", "priorityClassName", "runtimeClassName")
    return {name: value for name, value in template["spec"].items() if name in names}


def test_the_platform_may_choose_the_user() -> None:
    """OpenShift's restricted-v2 refuses pods that ask for numbers outside the namespace's range."""
    settings = KubernetesConfig(security=Security(user=None, group=None, fs_group=None))
    for template in templates(settings):
        assert template["spec"]["securityContext"] == {
            "runAsNonRoot": True,
            "seccompProfile": {"type": "RuntimeDefault"},
        }
    numbers = pod_security(Security(user=20000, group=0, fs_group=5))
    assert (numbers["runAsUser"], numbers["runAsGroup"], numbers["fsGroup"]) == (20000, 0, 5)


def test_names_say_what_they_are_and_fit() -> None:
    assert job_name("train", KEY) == "conveyor-train-3f0c92ab51de"
    assert run_name("20261123-150612-3fa9") == "conveyor-run-20261123-150612-3fa9"
    assert len(run_name("x" * 63)) <= 63
    assert run_name("a.b") != run_name("a-b")
    assert "." not in run_name("a.b")
    assert config_name("a: 1\n") == config_name("a: 1\n") != config_name("a: 2\n")


def test_a_config_map_never_changes() -> None:
    found = config_map("conveyor-config-1", "train: {}\n", RICH)
    assert found["immutable"] is True
    assert found["data"] == {"config.yaml": "train: {}\n"}


def test_layers_of_resources() -> None:
    settings = KubernetesConfig(
        resources={"default": Resources(cpu=2, disk="1Gi"), "train": Resources(gpus=1)}
    )
    assert resources_for(settings, "train") == Resources(cpu=2, memory="3Gi", disk="1Gi", gpus=1)
    assert resources_for(settings, "ingest") == Resources(cpu=2, memory="2Gi", disk="1Gi", gpus=0)
    assert resources_for(settings, "launcher").cpu == "100m"


def test_no_pod_reserves_more_cores_than_it_may_use() -> None:
    """A limit may be set by itself, below what is reserved where nothing is said."""
    settings = KubernetesConfig(
        resources={"default": Resources(cpu_limit="250m"), "train": Resources(cpu=2, cpu_limit=4)}
    )
    assert resources_for(settings, "ingest").cpu == "250m"
    assert resources_for(settings, "train").cpu == 2
    with pytest.raises(ValidationError, match="at most cpu_limit"):
        Resources(cpu=2, cpu_limit="1500m")


@pytest.mark.parametrize(
    ("disk", "reserved"),
    [("50Mi", "50Mi"), ("99M", "99M"), ("100Mi", "100Mi"), ("0.5Gi", "100Mi"), (None, "100Mi")],
)
def test_no_pod_reserves_more_disk_than_it_may_use(disk: str | None, reserved: str) -> None:
    settings = KubernetesConfig(
        resources={"default": Resources(disk=disk), "launcher": Resources(disk=disk)},
        training=TrainingConfig(pods=3),
    )
    for template in templates(settings):
        given = template["spec"]["containers"][0]["resources"]
        assert given["requests"]["ephemeral-storage"] == reserved
        limit = given["limits"]["ephemeral-storage"]
        assert disk is None or limit == disk
        (tmp,) = [volume for volume in template["spec"]["volumes"] if volume["name"] == "tmp"]
        assert tmp["emptyDir"]["sizeLimit"] == limit


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"resources": {"train": {"memory": "lots"}}}, "quantity"),
        ({"training": {"min_pods": 2}}, "mpi-job"),
        ({"training": {"kind": "mpi-job", "pods": 2, "min_pods": 3}}, "at most pods"),
        ({"mounts": [{"name": "data", "path": "/data"}]}, "exactly one"),
        ({"security": {"user": 0}}, "greater than or equal to 1"),
        ({"placement": {"train": {"node_selektor": {}}}}, "node_selektor"),
    ],
)
def test_impossible_settings_are_refused(values: dict[str, Any], message: str) -> None:
    import json

    with pytest.raises(ValueError, match=message):
        KubernetesConfig.model_validate_json(json.dumps(values))
