"""What the chart makes: for each Helm that is here, the same, and what our own builders would make."""

import base64
from typing import Any

import pytest
import yaml

from components.cluster.config import KubernetesConfig
from components.cluster.jobs import launcher_job
from components.cluster.pods import container_security, pod_security
from components.cluster.rbac import LAUNCHER, role_rules
from components.common.config import load_config
from components.common.sections import root_model
from pipelines.graph import GRAPH
from support.chart import RefusedError, helms, one, pod_templates, render, template

if not helms():
    pytest.skip("no Helm here", allow_module_level=True)

EVERYTHING: dict[str, Any] = {
    "metrics": {"enabled": True, "serviceMonitor": {"enabled": True}},
    "kubeflow": {"enabled": True, "createServiceAccount": True},
    "example": {"enabled": True},
    "webhook": {"enabled": True, "existingSecret": "news"},
    "kueue": {"queue": "team-a"},
    "image": {"pullSecrets": ["registry"]},
    "podLabels": {"team": "vision", "app.kubernetes.io/part-of": "mine"},
    "podAnnotations": {"note": "here"},
    "extraEnv": {"HTTPS_PROXY": "http://proxy:3128", "FLAG": "on"},
    "nodeSelector": {"pool": "cpu"},
    "tolerations": [{"key": "dedicated", "operator": "Exists"}],
    "affinity": {"nodeAffinity": {}},
    "priorityClassName": "low",
    "rbac": {"users": [{"kind": "User", "name": "ada", "apiGroup": "rbac.authorization.k8s.io"}]},
}
EXTERNAL: dict[str, Any] = {
    "storage": {"kind": "external", "existingSecret": "mine"},
    "config": {"store": {"url": "s3://results/x"}},
}


def settings(objects: list[dict[str, Any]]) -> Any:
    """The rendered config file, read as a pod would."""
    text = one(objects, "ConfigMap", "conveyor-config")["data"]["config.yaml"]
    return load_config(root_model(GRAPH.packages()), text=text)


@pytest.mark.parametrize("values", [{}, EVERYTHING, EXTERNAL], ids=["defaults", "everything", "external"])
def test_helm_3_and_4_render_the_same(values: dict[str, Any]) -> None:
    if len(helms()) < 2:
        pytest.skip(f"only Helm {next(iter(helms()))} is here")

    def by_name(helm: str) -> dict[str, Any]:
        found = {}
        for each in render(values, helm=helm):
            if each["kind"] == "Secret":
                each["data"] = sorted(each["data"])  # drawn anew each time
            found[f"{each['kind']}/{each['metadata']['name']}"] = each
        return found

    first, second = (by_name(program) for program in helms().values())
    assert first == second


def test_the_rules_are_those_of_the_table() -> None:
    objects = render(EVERYTHING)
    assert one(objects, "Role", "conveyor-launcher")["rules"] == role_rules(LAUNCHER)
    assert one(objects, "Role", "conveyor-user")["rules"] == role_rules("conveyor-user")
    assert not [each for each in objects if each["kind"].startswith("ClusterRole")]
    bound = one(objects, "RoleBinding", "conveyor-launcher")["subjects"]
    assert [each["name"] for each in bound] == ["conveyor-launcher", "pipeline-runner"]
    assert [each["name"] for each in one(objects, "RoleBinding", "conveyor-user")["subjects"]] == ["ada"]
    accounts = [each for each in objects if each["kind"] == "ServiceAccount"]
    assert sorted(each["metadata"]["name"] for each in accounts) == [
        "conveyor-launcher",
        "conveyor-step",
        "conveyor-storage",
        "pipeline-runner",
    ]


@pytest.mark.parametrize("values", [{}, EVERYTHING, EXTERNAL], ids=["defaults", "everything", "external"])
def test_every_pod_is_closed_in(values: dict[str, Any]) -> None:
    for name, made in pod_templates(render(values)).items():
        spec = made["spec"]
        assert pod_security().items() <= spec["securityContext"].items(), name
        assert spec["enableServiceLinks"] is False, name
        launches = name in {"CronJob/conveyor-retrain", "Pod/conveyor-test"}
        assert spec["automountServiceAccountToken"] is launches, name
        assert spec["serviceAccountName"] != "default", name
        (container,) = spec["containers"]
        assert container["securityContext"] == container_security(), name
        assert {"cpu", "memory"} <= container["resources"]["requests"].keys(), name
        assert {"memory", "ephemeral-storage"} <= container["resources"]["limits"].keys(), name
        for each in container["env"]:
            secret = any(word in each["name"] for word in ("KEY", "TOKEN", "SECRET", "PASSWORD", "_USER"))
            assert not (secret and "value" in each), f"{name}: {each['name']}"


def test_settings_for_every_pod_reach_the_charts_and_the_steps() -> None:
    objects = render(EVERYTHING)
    for name, made in pod_templates(objects).items():
        spec = made["spec"]
        assert made["metadata"]["labels"]["team"] == "vision", name
        assert made["metadata"]["labels"]["app.kubernetes.io/part-of"] == "conveyor", name
        if not name.startswith("Pod/"):
            assert made["metadata"]["annotations"]["note"] == "here", name
        assert spec["imagePullSecrets"] == [{"name": "registry"}], name
        assert spec["nodeSelector"] == {"pool": "cpu"}, name
        assert spec["tolerations"] == EVERYTHING["tolerations"], name
        assert spec["priorityClassName"] == "low", name
        if "storage" not in name:
            assert {"name": "FLAG", "value": "on"} in spec["containers"][0]["env"], name
    pods = settings(objects).kubernetes
    assert pods.labels["team"] == "vision"
    assert pods.labels["app.kubernetes.io/instance"] == "conveyor"
    assert pods.image == "conveyor:cpu"
    assert pods.image_pull_secrets == ("registry",)
    assert (pods.secret, pods.service_account) == ("conveyor-store", "conveyor-step")
    assert pods.launcher_service_account == "conveyor-launcher"
    assert (pods.queue, pods.priority_class, pods.env["FLAG"]) == ("team-a", "low", "on")
    assert pods.node_selector == {"pool": "cpu"}
    assert pods.tolerations == tuple(EVERYTHING["tolerations"])


def test_the_schedules_pod_is_the_launchers() -> None:
    cron = one(render(), "CronJob")
    spec = cron["spec"]
    assert (spec["concurrencyPolicy"], spec["timeZone"]) == ("Forbid", "Etc/UTC")
    ours = launcher_job("n", "r", KubernetesConfig(), config_map="conveyor-config", command_args=[])["spec"]
    job = spec["jobTemplate"]["spec"]
    for key in ("backoffLimit", "podReplacementPolicy", "podFailurePolicy"):
        assert job[key] == ours[key], key
    made, wanted = job["template"]["spec"], ours["template"]["spec"]
    assert made["serviceAccountName"] == wanted["serviceAccountName"]
    container, reference = made["containers"][0], wanted["containers"][0]
    assert container["args"] == ["retrain", "--on", "kubernetes", "-f", "/etc/conveyor/config.yaml"]
    assert {each["name"]: each for each in reference["env"]} == {
        each["name"]: each for each in container["env"]
    }
    assert container["volumeMounts"] == reference["volumeMounts"]
    labels = job["template"]["metadata"]["labels"]
    wanted_labels = ours["template"]["metadata"]["labels"]
    assert {
        key: value for key, value in wanted_labels.items() if key != "conveyor/run"
    }.items() <= labels.items()


def test_the_schedule_sleeps_until_there_is_a_source() -> None:
    assert one(render(), "CronJob")["spec"]["suspend"] is True
    source = {"config": {"ingest": {"source": "s3://images/x"}}}
    assert one(render(source), "CronJob")["spec"]["suspend"] is False
    assert one(render({**source, "retrain": {"suspend": True}}), "CronJob")["spec"]["suspend"] is True
    assert not [each for each in render({"retrain": {"enabled": False}}) if each["kind"] == "CronJob"]


def test_numbers_nulls_and_empty_texts_arrive_as_they_were_given() -> None:
    given = {
        "promote": {"max_latency_ratio": None, "max_size_bytes": 123456789},
        "train": {"learning_rate": 0.00001, "weight_decay": 0},
        "store": {"region": "eu-central-1"},
        "kubernetes": {"secret": "", "image": "mine:1", "ttl_s": None},
    }
    found = settings(render({"config": given}))
    assert found.promote.max_latency_ratio is None
    assert found.promote.max_size_bytes == 123456789
    assert found.train.learning_rate == 1e-05
    assert found.train.weight_decay == 0
    assert (found.kubernetes.secret, found.kubernetes.image, found.kubernetes.ttl_s) == ("", "mine:1", None)
    assert found.store.url == "s3://conveyor/store"
    assert found.store.endpoint == "http://conveyor-storage.ml.svc:9000"


def test_an_external_store_has_nothing_of_minio() -> None:
    objects = render(EXTERNAL)
    kinds = {each["kind"] for each in objects}
    assert not kinds & {"StatefulSet", "Secret", "PersistentVolumeClaim", "Job"}
    found = settings(objects)
    assert (found.store.url, found.store.endpoint, found.kubernetes.secret) == (
        "s3://results/x",
        None,
        "mine",
    )
    identity = render({**EXTERNAL, "storage": {"kind": "external", "podIdentity": True}})
    assert settings(identity).kubernetes.secret == ""
    assert "AWS_" not in yaml.safe_dump(one(identity, "CronJob"))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"storage": {"kind": "external"}, "config": {"store": {"url": "s3://x"}}}, "storage.existingSecret"),
        ({"storage": {"kind": "external", "existingSecret": "x"}}, "config.store.url must be s3://"),
        ({"config": {"store": {"url": "/data"}}}, "config.store.url must be s3://"),
        ({"config": {"train": {"epochs": "3"}}}, "/config/train/epochs"),
        ({"retrian": {}}, "retrian"),
    ],
)
def test_impossible_values_are_told(values: dict[str, Any], said: str) -> None:
    for program in helms().values():
        with pytest.raises(RefusedError, match=said):
            render(values, helm=program)


def test_data_is_kept_unless_asked() -> None:
    def kept(objects: list[dict[str, Any]]) -> list[str]:
        return sorted(
            each["kind"]
            for each in objects
            if each["metadata"].get("annotations", {}).get("helm.sh/resource-policy") == "keep"
        )

    assert kept(render()) == ["PersistentVolumeClaim", "Secret"]
    assert kept(render({"storage": {"keepData": False}})) == []


def test_generated_credentials_are_long_and_never_twice_the_same() -> None:
    first = one(render(), "Secret")["data"]
    template.cache_clear()
    second = one(render(), "Secret")["data"]
    assert [len(base64.b64decode(first[key])) for key in ("access-key", "secret-key")] == [20, 40]
    assert first["secret-key"] != second["secret-key"]
    assert first["secret-key"] not in yaml.safe_dump([e for e in render() if e["kind"] != "Secret"])


def test_kubeflows_settings() -> None:
    found = one(render({"kubeflow": {"enabled": True}}), "ConfigMap", "kfp-launcher")["data"]
    assert found["defaultPipelineRoot"] == "s3://conveyor/kubeflow"
    assert yaml.safe_load(found["providers"])["s3"]["default"] == {
        "endpoint": "conveyor-storage.ml.svc:9000",
        "disableSSL": True,
        "forcePathStyle": True,
        "region": "us-east-1",
        "credentials": {
            "fromEnv": False,
            "secretRef": {
                "secretName": "conveyor-store",
                "accessKeyKey": "access-key",
                "secretKeyKey": "secret-key",
            },
        },
    }


def test_two_releases_have_names_of_their_own() -> None:
    first, second = (
        {f"{each['kind']}/{each['metadata']['name']}" for each in render(EVERYTHING, release=name)}
        for name in ("vision", "a" * 53)
    )
    assert first & second == {"ConfigMap/kfp-launcher", "ServiceAccount/pipeline-runner"}
    assert max(len(each.partition("/")[2]) for each in second) <= 63
