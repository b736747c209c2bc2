"""What NetworkPolicies allow, decided as Kubernetes documents it: no cluster of ours enforces them.

Semantics (networking.k8s.io/v1): a pod that no policy of a direction selects is open in it; otherwise what any of those
policies allows is allowed, and nothing else. A connection needs its source's egress and its target's ingress.
"""

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

Object = Mapping[str, Any]


@dataclass(frozen=True)
class Pod:
    """An end of a connection in the cluster. `named_ports` are its containers'."""

    labels: Mapping[str, str]
    namespace: str
    ip: str = "10.0.0.10"
    namespace_labels: Mapping[str, str] = field(default_factory=dict)
    named_ports: Mapping[str, int] = field(default_factory=dict)

    def all_namespace_labels(self) -> dict[str, str]:
        return {"kubernetes.io/metadata.name": self.namespace, **self.namespace_labels}


@dataclass(frozen=True)
class Host:
    """An end outside the pods' network: a server, a person, the API server."""

    ip: str


End = Pod | Host


def allows(policies: Iterable[Object], source: End, target: End, port: int, protocol: str = "TCP") -> bool:
    """Whether `source` may open a connection to `target` at `port`."""
    policies = list(policies)
    return _open(policies, "Egress", source, target, target, port, protocol) and _open(
        policies, "Ingress", target, source, target, port, protocol
    )


def _open(
    policies: list[Object], way: str, own: End, peer: End, target: End, port: int, protocol: str
) -> bool:
    if isinstance(own, Host):
        return True  # policies are about pods
    selecting = [policy for policy in policies if way in _types(policy) and _selects(policy, own)]
    rules = [rule for policy in selecting for rule in policy["spec"].get(way.lower()) or ()]
    peers = "to" if way == "Egress" else "from"
    return not selecting or any(
        _has_peer(rule.get(peers), own.namespace, peer)
        and _has_port(rule.get("ports"), target, port, protocol)
        for rule in rules
    )


def _types(policy: Object) -> list[str]:
    spec = policy["spec"]
    # Left out, it is Ingress, and Egress where there are rules for it.
    return list(spec.get("policyTypes") or (["Ingress", "Egress"] if spec.get("egress") else ["Ingress"]))


def _selects(policy: Object, pod: Pod) -> bool:
    return policy["metadata"]["namespace"] == pod.namespace and matches(
        policy["spec"]["podSelector"], pod.labels
    )


def _has_peer(peers: list[Object] | None, namespace: str, end: End) -> bool:
    # No list, or an empty one, is everybody.
    return not peers or any(_is_peer(peer, namespace, end) for peer in peers)


def _is_peer(peer: Object, namespace: str, end: End) -> bool:
    if "ipBlock" in peer:
        address = ipaddress.ip_address(end.ip)
        block = peer["ipBlock"]
        inside = address in ipaddress.ip_network(block["cidr"])
        return inside and not any(address in ipaddress.ip_network(cut) for cut in block.get("except", ()))
    if isinstance(end, Host):
        return False
    if "namespaceSelector" in peer:
        if not matches(peer["namespaceSelector"], end.all_namespace_labels()):
            return False
    elif end.namespace != namespace:
        return False
    return matches(peer.get("podSelector", {}), end.labels)


def _has_port(ports: list[Object] | None, target: End, port: int, protocol: str) -> bool:
    return not ports or any(_is_port(each, target, port, protocol) for each in ports)


def _is_port(rule: Object, target: End, port: int, protocol: str) -> bool:
    if rule.get("protocol", "TCP") != protocol:
        return False
    wanted = rule.get("port")
    if wanted is None:
        return True
    if isinstance(wanted, str):
        return isinstance(target, Pod) and target.named_ports.get(wanted) == port
    return bool(wanted <= port <= rule.get("endPort", wanted))


def matches(selector: Object, labels: Mapping[str, str]) -> bool:
    """A label selector; an empty one matches everything."""
    exact = all(labels.get(key) == value for key, value in (selector.get("matchLabels") or {}).items())
    return exact and all(_holds(each, labels) for each in selector.get("matchExpressions") or ())


def _holds(expression: Object, labels: Mapping[str, str]) -> bool:
    key, operator, values = expression["key"], expression["operator"], expression.get("values", ())
    match operator:
        case "In":
            return key in labels and labels[key] in values
        case "NotIn":
            return key not in labels or labels[key] not in values
        case "Exists":
            return key in labels
        case "DoesNotExist":
            return key not in labels
    raise ValueError(f"no such operator: {operator}")
