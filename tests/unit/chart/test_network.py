"""The rendered network policies against the list of flows that must, and of flows that must not, be possible."""

from typing import Any

import pytest

from support import flows
from support.chart import helms, one, pod_templates, render
from support.flows import NAMESPACE, Flow
from support.network_policy import End, Pod, allows

if not helms():
    pytest.skip("no Helm here", allow_module_level=True)

MINIO = {"metrics": {"enabled": True}, "webhook": {"enabled": True}, "example": {"enabled": True}}
OUTSIDE = {
    "storage": {"kind": "external", "existingSecret": "mine", "bucket": {"create": True}},
    "config": {"store": {"url": "s3://results"}},
}
NARROW = {"networkPolicy": {"apiServer": {"cidrs": ["192.0.2.10/32"]}, "store": {"cidrs": ["52.216.0.0/15"]}}}


def installed(values: dict[str, Any]) -> tuple[list[dict[str, Any]], dict[str, Pod]]:
    """The policies, and the chart's own pods by component."""
    objects = render(values, namespace=NAMESPACE)
    pods = {}
    for number, template in enumerate(pod_templates(objects).values()):
        labels = template["metadata"]["labels"]
        ports = {
            port["name"]: port["containerPort"] for port in template["spec"]["containers"][0].get("ports", ())
        }
        pods[labels["app.kubernetes.io/component"]] = Pod(
            labels, NAMESPACE, f"10.0.1.{number}", named_ports=ports
        )
    return [each for each in objects if each["kind"] == "NetworkPolicy"], pods


def holds(policies: list[dict[str, Any]], flow: Flow) -> bool:
    return allows(policies, flow.source, flow.target, flow.port, flow.protocol)


def judge(policies: list[dict[str, Any]], needed: list[Flow], forbidden: list[Flow]) -> None:
    assert [str(flow) for flow in needed if not holds(policies, flow)] == [], "needed, and closed"
    assert [str(flow) for flow in forbidden if holds(policies, flow)] == [], "forbidden, and open"


def test_with_a_store_in_the_namespace() -> None:
    policies, pods = installed(MINIO)
    storage, metrics = pods["storage"], pods["metrics"]
    assert set(pods) == {"storage", "metrics", "launcher", "test", "bucket", "example"}
    own = [
        Flow(pod, target, port, f"{name} works", protocol)
        for name, pod in pods.items()
        if name != "storage"
        for target, port, protocol in ((storage, 9000, "TCP"), (flows.DNS, 53, "UDP"))
    ]
    more = [
        Flow(pods["launcher"], flows.API, 6443, "the schedule's launcher makes Jobs"),
        Flow(pods["test"], flows.API, 6443, "helm test asks for its rights"),
        Flow(pods["launcher"], flows.RECEIVER, 443, "news go to the webhook"),
        Flow(flows.PROMETHEUS, metrics, 9464, "Prometheus scrapes"),
    ]
    closed = [
        Flow(flows.STRANGER, metrics, 9464, "another pod of the namespace reads the metrics"),
        Flow(flows.PROMETHEUS, storage, 9000, "the monitoring reads the results"),
        Flow(flows.PROMETHEUS, flows.TRAIN, 9464, "the monitoring reaches a training pod"),
        Flow(metrics, flows.API, 6443, "the exporter reaches the API server"),
        Flow(pods["bucket"], flows.API, 6443, "the bucket's Job reaches the API server"),
        Flow(metrics, flows.RECEIVER, 443, "the exporter sends data out"),
        Flow(flows.KUBEFLOW, storage, 9000, "Kubeflow's pods, where it was not asked for, read the results"),
    ]
    judge(
        policies,
        [*flows.needed(), *flows.needed_with_store(storage, 9000), *own, *more],
        [*flows.forbidden(), *flows.forbidden_with_storage(storage, 9000), *closed],
    )


@pytest.mark.parametrize(
    ("endpoint", "port"),
    [(None, 443), ("https://s3.example", 443), ("http://s3.example:7480", 7480), ("http://s3.example", 80)],
)
def test_with_a_store_outside(endpoint: str | None, port: int) -> None:
    policies, pods = installed(
        {**OUTSIDE, **NARROW, "config": {"store": {"url": "s3://results", "endpoint": endpoint}}}
    )
    assert "storage" not in pods
    needed = [*flows.needed(), *flows.needed_with_store(flows.S3, port)]
    narrow: list[Flow] = [
        *(Flow(pod, flows.API, 6443, f"{name} reaches the API server") for name, pod in flows.STEPS.items()),
        *(Flow(pod, flows.PERSON, port, f"{name} sends data out") for name, pod in flows.STEPS.items()),
        Flow(pods["launcher"], flows.PERSON, 443, "a launcher sends data out"),
    ]
    judge(policies, needed, [*flows.forbidden(), *narrow])


def test_pod_identity_is_reached_only_where_it_is_used() -> None:
    values = {**OUTSIDE, "storage": {"kind": "external", "podIdentity": True}}
    policies, _ = installed(values)
    assert allows(policies, flows.STEP, flows.NODE_CREDENTIALS, 80)
    closed = [flow for flow in flows.forbidden() if flow.target != flows.NODE_CREDENTIALS]
    judge(policies, flows.needed(), closed)


def test_kubeflows_pods_reach_the_store_of_the_namespace() -> None:
    policies, pods = installed({"kubeflow": {"enabled": True}})
    assert allows(policies, flows.KUBEFLOW, pods["storage"], 9000)
    judge(policies, flows.needed(), flows.forbidden_with_storage(pods["storage"], 9000))


def test_more_holes_are_for_steps_and_launchers() -> None:
    proxy: End = flows.STRANGER
    rule = {"to": [{"podSelector": {"matchLabels": {"app": "shop"}}}], "ports": [{"port": 3128}]}
    policies, pods = installed({"networkPolicy": {"extraEgress": [rule]}})
    assert allows(policies, flows.STEP, proxy, 3128)
    assert not allows(policies, flows.STEP, proxy, 3129)
    assert not allows(policies, pods["storage"], proxy, 3128)


def test_every_policy_is_of_the_releases_namespace_and_they_can_be_left_out() -> None:
    policies, _ = installed(MINIO)
    assert {each["metadata"]["namespace"] for each in policies} == {NAMESPACE}
    assert installed({"networkPolicy": {"enabled": False}})[0] == []


def test_pods_that_are_not_ours_are_left_alone() -> None:
    policies, _ = installed(MINIO)
    assert allows(policies, flows.STRANGER, flows.PERSON, 443)
    assert allows(policies, flows.PERSON, flows.STRANGER, 443)
    assert one(policies, "NetworkPolicy", "conveyor-default-deny")["spec"]["podSelector"]["matchLabels"]
