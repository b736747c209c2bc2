"""The evaluator itself, held against the examples of Kubernetes' own documentation."""

from typing import Any

import pytest

from support.network_policy import End, Host, Pod, allows, matches

WEB = Pod({"app": "web"}, "shop", "10.0.0.1", named_ports={"http": 8080})
DATABASE = Pod({"app": "db", "tier": "data"}, "shop", "10.0.0.2")
FOREIGN = Pod({"app": "web"}, "other", "10.0.1.1", {"team": "b"})
OUTSIDE = Host("203.0.113.7")


def policy(selector: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return {"metadata": {"namespace": "shop"}, "spec": {"podSelector": selector, **spec}}


DENY = policy({}, policyTypes=["Ingress", "Egress"])
DB = {"matchLabels": {"app": "db"}}
FROM_WEB = {"from": [{"podSelector": {"matchLabels": {"app": "web"}}}], "ports": [{"port": 5432}]}
TO_DB = policy(
    {"matchLabels": {"app": "web"}}, policyTypes=["Egress"], egress=[{"to": [{"podSelector": DB}]}]
)


@pytest.mark.parametrize(
    ("policies", "source", "target", "port", "allowed"),
    [
        ([], OUTSIDE, WEB, 80, True),
        ([DENY], OUTSIDE, WEB, 80, False),
        ([DENY], WEB, OUTSIDE, 80, False),
        ([DENY], FOREIGN, OUTSIDE, 80, True),  # of another namespace
        # Egress of the one and ingress of the other are both needed.
        ([DENY, TO_DB], WEB, DATABASE, 5432, False),
        ([DENY, policy(DB, ingress=[FROM_WEB])], WEB, DATABASE, 5432, False),
        ([DENY, TO_DB, policy(DB, ingress=[FROM_WEB])], WEB, DATABASE, 5432, True),
        ([DENY, TO_DB, policy(DB, ingress=[FROM_WEB])], WEB, DATABASE, 5433, False),
        # Left out policyTypes: ingress only.
        ([policy(DB)], DATABASE, OUTSIDE, 1, True),
        ([policy(DB)], OUTSIDE, DATABASE, 1, False),
        ([policy(DB, egress=[{"ports": [{"port": 53, "protocol": "UDP"}]}])], DATABASE, OUTSIDE, 53, False),
        # A pod selector alone is of the policy's namespace.
        ([policy(DB, ingress=[FROM_WEB])], FOREIGN, DATABASE, 5432, False),
        ([policy(DB, ingress=[{"from": [{"namespaceSelector": {}}]}])], FOREIGN, DATABASE, 1, True),
        ([policy(DB, ingress=[{"from": [{"namespaceSelector": {}}]}])], OUTSIDE, DATABASE, 1, False),
        # Both in one peer must hold; as two peers, either.
        (
            [policy(DB, ingress=[{"from": [{"namespaceSelector": {}, "podSelector": DB}]}])],
            FOREIGN,
            DATABASE,
            1,
            False,
        ),
        (
            [policy(DB, ingress=[{"from": [{"namespaceSelector": {}}, {"podSelector": DB}]}])],
            FOREIGN,
            DATABASE,
            1,
            True,
        ),
        ([policy(DB, ingress=[{}])], OUTSIDE, DATABASE, 1, True),
        ([policy(DB, ingress=[])], OUTSIDE, DATABASE, 1, False),
        # Named ports and ranges.
        ([policy({}, ingress=[{"ports": [{"port": "http"}]}])], OUTSIDE, WEB, 8080, True),
        ([policy({}, ingress=[{"ports": [{"port": "http"}]}])], OUTSIDE, WEB, 80, False),
        ([policy({}, ingress=[{"ports": [{"port": 8000, "endPort": 8999}]}])], OUTSIDE, WEB, 8080, True),
        ([policy({}, ingress=[{"ports": [{"protocol": "TCP"}]}])], OUTSIDE, WEB, 1, True),
        # Addresses, with a hole.
        ([policy({}, ingress=[{"from": [{"ipBlock": {"cidr": "203.0.113.0/24"}}]}])], OUTSIDE, WEB, 1, True),
        (
            [
                policy(
                    {},
                    ingress=[{"from": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": ["203.0.113.0/28"]}}]}],
                )
            ],
            OUTSIDE,
            WEB,
            1,
            False,
        ),
        ([policy({}, ingress=[{"from": [{"ipBlock": {"cidr": "::/0"}}]}])], OUTSIDE, WEB, 1, False),
    ],
)
def test_connections(policies: list[Any], source: End, target: End, port: int, allowed: bool) -> None:
    assert allows(policies, source, target, port) is allowed


@pytest.mark.parametrize(
    ("operator", "values", "there", "absent"),
    [
        ("In", ["db"], True, False),
        ("In", ["x"], False, False),
        ("NotIn", ["db"], False, True),
        ("NotIn", ["x"], True, True),
        ("Exists", [], True, False),
        ("DoesNotExist", [], False, True),
    ],
)
def test_expressions(operator: str, values: list[str], there: bool, absent: bool) -> None:
    selector = {"matchExpressions": [{"key": "app", "operator": operator, "values": values}]}
    assert matches(selector, {"app": "db"}) is there
    assert matches(selector, {}) is absent
