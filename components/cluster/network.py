"""NetworkPolicies: everything is closed, then the few holes that are needed. Pure: choices in, plain objects out."""

from collections.abc import Mapping, Sequence
from typing import Any

from components.cluster.jobs import metadata
from components.cluster.names import COMPONENT, STEP, labels
from components.cluster.pods import Object

PART_OF = {"app.kubernetes.io/part-of": "conveyor"}
NOT_KUBEFLOW: Object = {"key": "workflows.argoproj.io/workflow", "operator": "DoesNotExist"}
"""A task of a Kubeflow run has our labels too, but Kubeflow's and Argo's containers in it talk to their own servers."""
STORAGE = "storage"
LAUNCHER = "launcher"
STORAGE_PORT = 9000
API_PORTS = (443, 6443)
NODE_DNS = "169.254.20.10/32"  # NodeLocal DNSCache, where a cluster has it
EKS_IDENTITY = ("169.254.170.23/32", "fd00:ec2::23/128")
LINK_LOCAL = "169.254.0.0/16"
"""Where clouds serve a node's own credentials: no pod of ours may ask there, unless its identity comes from there."""
AWS_LOCAL_6 = "fd00:ec2::/32"
"""The same on AWS's nodes with IPv6, which take no link-local address for it."""
EVERYBODY_ELSE: Object = {"ipBlock": {"cidr": "0.0.0.0/0", "except": [LINK_LOCAL]}}
EVERYBODY_ELSE_6: Object = {"ipBlock": {"cidr": "::/0", "except": ["fe80::/10", AWS_LOCAL_6]}}


def policy(
    name: str,
    selector: Mapping[str, Any],
    *,
    ingress: Sequence[Object] | None = None,
    egress: Sequence[Object] | None = None,
    annotations: Mapping[str, str] | None = None,
) -> Object:
    """One NetworkPolicy for the pods of `selector`; None leaves that direction to the others."""
    types = [("Ingress", ingress), ("Egress", egress)]
    spec: Object = {
        "podSelector": dict(selector),
        "policyTypes": [name for name, rules in types if rules is not None],
    }
    for kind, rules in (("ingress", ingress), ("egress", egress)):
        if rules:
            spec[kind] = [dict(rule) for rule in rules]
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": metadata(name, labels("network"), annotations=annotations),
        "spec": spec,
    }


def ours(labels: Mapping[str, str] | None = None, *expressions: Object) -> Object:
    """Selector of pods of ours, with these labels and expressions besides."""
    return {
        "matchLabels": {**PART_OF, **(labels or {})},
        "matchExpressions": [NOT_KUBEFLOW, *expressions],
    }


def tcp(*ports: int) -> list[Object]:
    return [{"protocol": "TCP", "port": port} for port in ports]


def all_closed() -> Object:
    """Nobody reaches a pod of ours, and none of them reaches anybody."""
    return policy("conveyor-all-closed", ours(), ingress=[], egress=[])


def names_resolved() -> Object:
    """Every pod may ask the cluster's DNS."""
    dns: list[Object] = [
        {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}}},
        {"ipBlock": {"cidr": NODE_DNS}},
    ]
    ports = [{"protocol": "UDP", "port": 53}, *tcp(53)]
    return policy("conveyor-dns", ours(), egress=[{"to": dns, "ports": ports}])


def training_together() -> Object:
    """Training pods reach each other on any port: Gloo and NCCL take ephemeral ones."""
    training = ours({STEP: "train"})
    peers: list[Object] = [{"podSelector": training}]
    return policy(
        "conveyor-training",
        training,
        ingress=[{"from": peers}],
        egress=[{"to": peers}],
        # The pods of an MPIJob, and those that a launcher makes, stand in no file that it reads.
        annotations={"kube-score/ignore": "networkpolicy-targets-pod"},
    )


def clients() -> Object:
    """Selector of the pods that use the store: all but the storage itself."""
    return ours(None, {"key": COMPONENT, "operator": "NotIn", "values": [STORAGE]})


def store_outside(ports: Sequence[int]) -> Object:
    """Steps reach an S3 server outside the cluster on these ports (443 for AWS)."""
    return policy(
        "conveyor-store",
        clients(),
        egress=[{"to": [EVERYBODY_ELSE, EVERYBODY_ELSE_6], "ports": tcp(*ports)}],
    )


def store_inside() -> list[Object]:
    """Steps reach the storage in this namespace, and it answers nobody else."""
    storage = {**PART_OF, COMPONENT: STORAGE}
    return [
        policy(
            "conveyor-store",
            clients(),
            egress=[{"to": [{"podSelector": {"matchLabels": storage}}], "ports": tcp(STORAGE_PORT)}],
        ),
        policy(
            "conveyor-storage",
            {"matchLabels": storage},
            ingress=[{"from": [{"podSelector": clients()}], "ports": tcp(STORAGE_PORT)}],
        ),
    ]


def pod_identity() -> Object:
    """Steps fetch their credentials from the agent of EKS Pod Identity on their node.

    The only one with credentials for S3. The address of a node's own credentials, 169.254.169.254, stays closed.
    """
    agents: list[Object] = [{"ipBlock": {"cidr": cidr}} for cidr in EKS_IDENTITY]
    return policy("conveyor-pod-identity", clients(), egress=[{"to": agents, "ports": tcp(80)}])


def launcher_to_api() -> Object:
    """A launcher talks to the API server, wherever that is: its address is no pod's, so no selector can name it."""
    return policy(
        "conveyor-launcher",
        ours({COMPONENT: LAUNCHER}),
        egress=[{"to": [EVERYBODY_ELSE, EVERYBODY_ELSE_6], "ports": tcp(*API_PORTS)}],
    )
