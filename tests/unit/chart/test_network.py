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
    for agent in (flows.IDENTITY_AGENT, flows.IDENTITY_AGENT_6):
        assert allows(policies, flows.STEP, agent, 80)
        assert not allows(installed(OUTSIDE)[0], flows.STEP, agent, 80)
    judge(policies, flows.needed(), flows.forbidden())


def test_a_role_for_service_accounts_asks_the_clouds_sts() -> None:
    identity = {**OUTSIDE, "storage": {"kind": "external", "podIdentity": True}}
    narrow = {**NARROW["networkPolicy"], "sts": {"cidrs": ["52.94.0.0/22"]}}
    asks = [Flow(pod, flows.STS, 443, f"{name} asks STS") for name, pod in flows.STEPS.items()]
    out = [Flow(pod, flows.PERSON, 443, f"{name} sends data out") for name, pod in flows.STEPS.items()]
    judge(
        installed({**identity, "networkPolicy": narrow})[0],
        [*flows.needed(), *asks],
        [*flows.forbidden(), *out],
    )
    # Not asked for, or not needed: closed.
    judge(installed({**OUTSIDE, "networkPolicy": narrow})[0], flows.needed(), asks)
    agent = {**narrow, "sts": {"cidrs": []}}
    judge(installed({**identity, "networkPolicy": agent})[0], flows.needed(), [*flows.forbidden(), *asks])


def test_with_a_store_elsewhere_in_the_cluster() -> None:
    peer = {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "storage"}},
        "podSelector": {"matchLabels": {"app": "ceph-rgw"}},
    }
    network = {**NARROW["networkPolicy"], "store": {"cidrs": [], "to": [peer], "ports": [8080]}}
    store = {"url": "s3://results", "endpoint": "http://rgw.storage"}
    policies, pods = installed({**OUTSIDE, "config": {"store": store}, "networkPolicy": network})
    own = [Flow(pod, flows.STORE_INSIDE, 8080, f"{name} uses the store") for name, pod in pods.items()]
    closed = [
        *(Flow(pod, flows.S3, 443, f"{name} reaches a store outside") for name, pod in flows.STEPS.items()),
        *(Flow(pod, flows.FOREIGN, 8080, f"{name} reaches others") for name, pod in flows.STEPS.items()),
        Flow(flows.STEP, flows.STORE_INSIDE, 80, "a step reaches another port of the store's pods"),
    ]
    needed = [*flows.needed(), *flows.needed_with_store(flows.STORE_INSIDE, 8080), *own]
    judge(policies, needed, [*flows.forbidden(), *closed])


def test_an_api_server_in_pods_is_named_by_them() -> None:
    server = Pod({"app": "kube-apiserver"}, "cluster-one", "10.0.4.4")
    peer = {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "cluster-one"}},
        "podSelector": {"matchLabels": {"app": "kube-apiserver"}},
    }
    policies, _ = installed({"networkPolicy": {"apiServer": {"cidrs": [], "to": [peer]}}})
    assert allows(policies, flows.LAUNCHER, server, 6443)
    assert not allows(policies, flows.LAUNCHER, flows.API, 6443)
    assert not allows(policies, flows.STEP, server, 6443)


def test_nobody_named_is_nobody_and_not_everybody() -> None:
    nobody: dict[str, Any] = {"cidrs": []}
    network = dict.fromkeys(("store", "apiServer", "webhook", "sts"), nobody)
    values = {**OUTSIDE, "storage": {"kind": "external", "podIdentity": True}, "webhook": {"enabled": True}}
    policies, _ = installed({**values, "networkPolicy": network})
    for pod in (flows.STEP, flows.LAUNCHER):
        assert allows(policies, pod, flows.DNS, 53, "UDP")
        for end in (flows.S3, flows.API, flows.RECEIVER, flows.STS):
            assert not allows(policies, pod, end, 443)


def test_no_port_named_is_none_and_not_all_of_them() -> None:
    """What an upgrade with an older chart's values leaves out, the schema does not miss."""
    network = {name: {"ports": None} for name in ("dns", "apiServer", "webhook")}
    policies, _ = installed({**OUTSIDE, "webhook": {"enabled": True}, "networkPolicy": network})
    for pod in (flows.STEP, flows.LAUNCHER):
        for port in (22, 53, 6443):
            for end in (flows.DNS, flows.API, flows.RECEIVER):
                assert not allows(policies, pod, end, port), (pod, end, port)
                assert not allows(policies, pod, end, port, "UDP"), (pod, end, port)
        assert allows(policies, pod, flows.S3, 443)


def test_names_are_asked_for_at_the_port_that_the_cluster_has() -> None:
    dns = {"ports": [5353], "namespaceLabels": {"kubernetes.io/metadata.name": "openshift-dns"}}
    policies, pods = installed({"networkPolicy": {"dns": dns}})
    resolver = Pod({"dns.operator.openshift.io/daemonset-dns": "default"}, "openshift-dns", "10.0.3.3")
    assert allows(policies, pods["launcher"], resolver, 5353, "UDP")
    assert allows(policies, flows.STEP, resolver, 5353)
    assert not allows(policies, flows.STEP, resolver, 53, "UDP")
    assert not allows(policies, flows.STEP, flows.DNS, 53, "UDP")


def test_the_pods_of_kubeflows_runs_reach_the_store_and_all_that_is_kubeflows() -> None:
    policies, pods = installed({**MINIO, "kubeflow": {"enabled": True}})
    storage = pods["storage"]
    to_store = [Flow(pod, storage, 9000, f"{name} uses it") for name, pod in flows.KUBEFLOW_TASKS.items()]
    needed = [*flows.needed(), *flows.needed_by_kubeflow(), *to_store]
    judge(policies, needed, [*flows.forbidden(), *flows.forbidden_with_storage(storage, 9000)])
    # Without the setting they are left alone as well, but are no pods of ours to the store.
    policies, pods = installed(MINIO)
    to_store = [Flow(flow.source, pods["storage"], 9000, flow.why) for flow in to_store]
    judge(policies, flows.needed_by_kubeflow(), to_store)


def test_more_holes_are_for_all_pods_but_the_storage() -> None:
    proxy: End = flows.PROXY
    rule = {"to": [{"ipBlock": {"cidr": f"{flows.PROXY.ip}/32"}}], "ports": [{"port": 3128}]}
    policies, pods = installed({**MINIO, "networkPolicy": {"extraEgress": [rule]}})
    # HTTPS_PROXY and store.proxy are settings of all of them.
    users = {**flows.STEPS, **{name: pod for name, pod in pods.items() if name != "storage"}}
    through = [Flow(pod, proxy, 3128, f"{name} goes through the proxy") for name, pod in users.items()]
    closed = [
        Flow(flows.STEP, proxy, 3129, "a step reaches another port of the proxy"),
        Flow(pods["storage"], proxy, 3128, "the storage goes through the proxy"),
    ]
    judge(policies, through, closed)


def test_every_policy_is_of_the_releases_namespace_and_they_can_be_left_out() -> None:
    policies, _ = installed(MINIO)
    assert {each["metadata"]["namespace"] for each in policies} == {NAMESPACE}
    assert installed({"networkPolicy": {"enabled": False}})[0] == []


def test_pods_that_are_not_ours_are_left_alone() -> None:
    policies, _ = installed(MINIO)
    assert allows(policies, flows.STRANGER, flows.PERSON, 443)
    assert allows(policies, flows.PERSON, flows.STRANGER, 443)
    assert one(policies, "NetworkPolicy", "conveyor-default-deny")["spec"]["podSelector"]["matchLabels"]
