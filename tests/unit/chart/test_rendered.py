"""What the chart makes: for each Helm that is here, the same, and what our own builders would make."""

import base64
import re
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
from pipelines.manifests.retrain import cron_job
from support.chart import (
    CASES,
    CHART,
    EVERYTHING,
    EXTERNAL,
    RefusedError,
    helms,
    one,
    pod_templates,
    render,
    template,
)
from support.snippets import snippets

if not helms():
    pytest.skip("no Helm here", allow_module_level=True)


def settings(objects: list[dict[str, Any]], release: str = "conveyor") -> Any:
    """The rendered config file, read as a pod would."""
    text = one(objects, "ConfigMap", f"{release}-config")["data"]["config.yaml"]
    return load_config(root_model(GRAPH.packages()), text=text)


@pytest.mark.parametrize("values", CASES.values(), ids=CASES)
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


@pytest.mark.parametrize("values", CASES.values(), ids=CASES)
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


PODS: dict[str, Any] = {
    "image": "registry.example/conveyor@sha256:12",
    "image_pull_policy": "Always",
    "image_pull_secrets": ["registry"],
    "env": {"HTTPS_PROXY": "http://proxy:3128", "NO": "on"},
    "mounts": EVERYTHING["config"]["kubernetes"]["mounts"],
    "node_selector": {"pool": "cpu"},
    "tolerations": [{"key": "dedicated", "operator": "Exists"}],
    "affinity": {"nodeAffinity": {}},
    "priority_class": "low",
    "placement": {"launcher": {"node_selector": {"pool": "small"}, "runtime_class": "gvisor"}},
    "annotations": {"note": "here"},
    "security": {"user": 5000, "group": None, "fs_group": 5001},
}
SAME: dict[str, Any] = {
    "podSecurityContext": {"runAsUser": 5000, "runAsGroup": None, "fsGroup": 5001},
    "podAnnotations": {"note": "here"},
}


@pytest.mark.parametrize(
    ("values", "given"),
    [({}, {"image": "conveyor:cpu"}), ({**SAME, "config": {"kubernetes": PODS}}, PODS)],
    ids=["defaults", "everything"],
)
def test_the_schedules_pod_is_the_launchers(values: dict[str, Any], given: dict[str, Any]) -> None:
    objects = render(values)
    cron = one(objects, "CronJob")
    spec = cron["spec"]
    assert (spec["concurrencyPolicy"], spec["timeZone"]) == ("Forbid", "Etc/UTC")
    # Strict settings know tuples only as YAML would give them.
    pods = load_config(root_model(GRAPH.packages()), text=yaml.safe_dump({"kubernetes": given})).kubernetes
    ours = launcher_job("n", "r", pods, config_map="conveyor-config", command_args=[])["spec"]
    job = spec["jobTemplate"]["spec"]
    for key in ("backoffLimit", "podReplacementPolicy", "podFailurePolicy"):
        assert job[key] == ours[key], key
    made, wanted = job["template"]["spec"], ours["template"]["spec"]
    container, reference = made.pop("containers")[0], wanted.pop("containers")[0]
    assert made["securityContext"].pop("fsGroupChangePolicy") == "OnRootMismatch"
    for each in (made, wanted):
        assert each["volumes"].pop(0)["name"] == "tmp"  # its size is a value of the chart's
    assert made == wanted
    assert container.pop("args") == ["retrain", "--on", "kubernetes", "-f", "/etc/conveyor/config.yaml"]
    assert {each["name"]: each for each in reference.pop("env")} == {
        each["name"]: each for each in container.pop("env")
    }
    del reference["args"], reference["resources"], container["resources"]
    assert container == reference
    made, wanted = job["template"]["metadata"], ours["template"]["metadata"]
    assert {k: v for k, v in wanted["labels"].items() if k != "conveyor/run"}.items() <= made[
        "labels"
    ].items()
    assert wanted.get("annotations", {}).items() <= made["annotations"].items()


def test_maps_of_the_config_add_to_those_of_the_values_and_win() -> None:
    ours: dict[str, Any] = {
        "podLabels": {"team": "vision", "cost": "1"},
        "podAnnotations": {"note": "here"},
        "extraEnv": {"HTTPS_PROXY": "http://proxy:3128", "FLAG": "on"},
    }
    kubernetes = {"labels": {"cost": "2"}, "annotations": {"more": "there"}, "env": {"FLAG": "", "OMP": "1"}}
    objects = render({**ours, "config": {"kubernetes": kubernetes}})
    pods = settings(objects).kubernetes
    assert pods.labels == {"team": "vision", "cost": "2", "app.kubernetes.io/instance": "conveyor"}
    assert pods.annotations == {"note": "here", "more": "there"}
    assert pods.env == {"HTTPS_PROXY": "http://proxy:3128", "FLAG": "", "OMP": "1"}
    container = one(objects, "CronJob")["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]
    assert pods.env.items() <= {each["name"]: each.get("value") for each in container["env"]}.items()


def test_every_pod_of_the_image_has_the_steps_mounts_and_the_launcher_their_claims_too() -> None:
    found = pod_templates(render(EVERYTHING))
    for name, made in found.items():
        if name == "StatefulSet/conveyor-storage":
            continue
        spec = made["spec"]
        mounts = {each["name"]: each for each in spec["containers"][0]["volumeMounts"]}
        assert mounts["ca"] == {"name": "ca", "mountPath": "/etc/ca", "readOnly": True}, name
        volumes = {each["name"]: each for each in spec["volumes"]}
        assert volumes["ca"] == {"name": "ca", "configMap": {"name": "authority"}}, name
        assert volumes["more"]["secret"] == {"secretName": "more"}, name
        # A claim at the exporter would keep its disk on the exporter's node.
        launches = name == "CronJob/conveyor-retrain"
        assert ("images" in mounts, "images" in volumes) == (launches, launches), name
        if launches:
            assert mounts["images"]["readOnly"] is False, name
            assert volumes["images"]["persistentVolumeClaim"] == {"claimName": "photos"}, name
    assert len(found) == 6


def test_a_claim_with_the_stores_certificate_is_everywhere() -> None:
    claims = [
        {"name": "ca", "path": "/etc/ca", "claim": "ca"},
        {"name": "other", "path": "/etc/c", "claim": "other"},
    ]
    config = {"store": {"ca_bundle": "/etc/ca/ca.crt"}, "kubernetes": {"mounts": claims}}
    found = pod_templates(render({"metrics": {"enabled": True}, "config": config}))
    volumes = [each["name"] for each in found["Deployment/conveyor-metrics"]["spec"]["volumes"]]
    assert volumes == ["tmp", "config", "ca"]


def test_security_contexts_reach_every_pod_and_the_steps_user_is_the_charts() -> None:
    values = {
        "podSecurityContext": {"runAsUser": None, "runAsGroup": None, "fsGroup": 1000690000},
        "securityContext": {"runAsNonRoot": True},
        "metrics": {"enabled": True},
        "example": {"enabled": True},
    }
    objects = render(values)
    for name, made in pod_templates(objects).items():
        spec = made["spec"]
        assert spec["securityContext"] == {
            "runAsNonRoot": True,
            "fsGroup": 1000690000,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        }, name
        inner = spec["containers"][0]["securityContext"]
        assert inner == {**container_security(), "runAsNonRoot": True}, name
    security = settings(objects).kubernetes.security
    assert (security.user, security.group, security.fs_group) == (None, None, 1000690000)
    own = settings(render({**values, "config": {"kubernetes": {"security": {"user": 7}}}})).kubernetes
    assert (own.security.user, own.security.fs_group) == (7, 1000690000)


@pytest.mark.parametrize("deadline_s", [86400, 600, None])
def test_a_tick_has_the_deadline_of_the_manifests(deadline_s: int | None) -> None:
    made = one(render({"config": {"kubernetes": {"deadline_s": deadline_s}}}), "CronJob")["spec"][
        "jobTemplate"
    ]
    theirs = cron_job(GRAPH, KubernetesConfig(deadline_s=deadline_s))["spec"]["jobTemplate"]
    assert made["spec"].get("activeDeadlineSeconds") == theirs["spec"].get("activeDeadlineSeconds")
    default = one(render(), "CronJob")["spec"]["jobTemplate"]["spec"]
    assert default["activeDeadlineSeconds"] == 6 * 86400


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
    assert not kinds & {"StatefulSet", "Secret", "PersistentVolumeClaim"}
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
        ({"storage": {"podIdentity": True}}, "storage.podIdentity: for storage.kind external only"),
        ({"config": {"train": {"epochs": "3"}}}, "/config/train/epochs"),
        ({"retrian": {}}, "retrian"),
        ({"fullnameOverride": "My_Name"}, 'no Service.s name can begin with "My_Name": set fullnameOverride'),
        ({**EXTERNAL, "fullnameOverride": "My_Name"}, 'no name in Kubernetes can begin with "My_Name"'),
        ({"config": {"kubernetes": {"namespace": "vision"}}}, "config.kubernetes.namespace: vision, and"),
    ],
)
def test_impossible_values_are_told(values: dict[str, Any], said: str) -> None:
    for program in helms().values():
        with pytest.raises(RefusedError, match=said):
            render(values, helm=program)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, ["init", "180"]),
        (EXTERNAL, ["check", "45"]),
        ({**EXTERNAL, "storage": {**EXTERNAL["storage"], "bucket": {"create": True}}}, ["init", "45"]),
        ({**EXTERNAL, "storage": {**EXTERNAL["storage"], "check": False}}, None),
    ],
    ids=["minio", "external", "external-made", "unchecked"],
)
def test_the_store_is_asked_after_an_install(values: dict[str, Any], said: list[str] | None) -> None:
    jobs = [each for each in render(values) if each["kind"] == "Job"]
    if said is None:
        assert jobs == []
        return
    (job,) = jobs
    what, wait = said
    args = job["spec"]["template"]["spec"]["containers"][0]["args"]
    assert args == ["store", what, "-f", "/etc/conveyor/config.yaml", "--wait", wait]
    # Its word ends the install, and is shown: within Helm's five minutes, and with no second try.
    assert job["metadata"]["annotations"]["helm.sh/hook-output-log-policy"] == "hook-failed"
    (codes,) = [
        each["onExitCodes"] for each in job["spec"]["podFailurePolicy"]["rules"] if "onExitCodes" in each
    ]
    assert codes == {"operator": "In", "values": [2, 3]}


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


@pytest.mark.parametrize("program", helms().values(), ids=helms())
def test_names_that_look_like_numbers_stay_texts(program: str) -> None:
    values = {**EVERYTHING, "fullnameOverride": "conveyor"}  # 123-storage could be no Service
    objects = render(values, release="123", namespace="456", helm=program)
    for each in objects:
        metadata = each["metadata"]
        assert metadata["namespace"] == "456", each
        assert all(isinstance(value, str) for value in metadata["labels"].values()), each
    assert settings(objects).kubernetes.labels["app.kubernetes.io/instance"] == "123"
    assert one(render(EXTERNAL, release="123", helm=program), "CronJob")["metadata"]["name"] == "123-retrain"


@pytest.mark.parametrize("release", ["123", "my.app"])
def test_a_release_that_no_service_can_be_named_for_is_told_so(release: str) -> None:
    for values in ({}, {**EXTERNAL, "metrics": {"enabled": True}}):
        with pytest.raises(RefusedError, match="set fullnameOverride"):
            render(values, release=release)
    assert {each["kind"] for each in render(EXTERNAL, release=release)} & {"Service", "CronJob"} == {
        "CronJob"
    }
    assert (
        one(render({"fullnameOverride": "fine"}, release=release), "CronJob")["metadata"]["name"]
        == "fine-retrain"
    )


def test_two_releases_have_names_of_their_own() -> None:
    first, second = (
        {f"{each['kind']}/{each['metadata']['name']}" for each in render(EVERYTHING, release=name)}
        for name in ("vision", "a" * 53)
    )
    assert first & second == {"ConfigMap/kfp-launcher", "ServiceAccount/pipeline-runner"}
    assert max(len(each.partition("/")[2]) for each in second) <= 63


def test_the_alerts_are_those_of_the_page() -> None:
    """The page names expression and meaning; the rule adds the namespace, and how long."""
    page = next(
        each.body
        for each in snippets(CHART.parents[1] / "docs" / "monitoring.md")
        if each.language == "text" and "conveyor_last_run_success" in each.body
    )
    shown = dict(re.split(r" {2,}", line, maxsplit=1) for line in page.splitlines())
    objects = render({"metrics": {"enabled": True, "prometheusRule": {"enabled": True}}})
    (group,) = one(objects, "PrometheusRule")["spec"]["groups"]
    ours = {
        re.sub(r",?namespace=\"ml\"", "", rule["expr"]).replace("{}", ""): rule["annotations"]["summary"]
        for rule in group["rules"]
    }
    assert ours == shown
    assert all('namespace="ml"' in rule["expr"] for rule in group["rules"])
