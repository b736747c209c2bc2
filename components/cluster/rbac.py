"""Who may do what: the one table that manifests, the chart and the tests of rights are made from."""

from typing import Any

STEP = "conveyor-step"
LAUNCHER = "conveyor-launcher"
STORAGE = "conveyor-storage"

Rule = tuple[str, str, tuple[str, ...]]

READ_PODS: tuple[Rule, ...] = (
    ("", "pods", ("get", "list")),
    ("", "pods/log", ("get",)),
    ("", "events", ("list",)),
)

RULES: dict[str, tuple[Rule, ...]] = {
    # Steps never ask the API server: they have no token.
    STEP: (),
    STORAGE: (),
    # Makes and follows steps: patch adds an owner to what another launcher made; a Kubeflow task that is stopped lists
    # the training Jobs of its run.
    LAUNCHER: (
        ("batch", "jobs", ("get", "list", "create", "patch", "delete")),
        ("kubeflow.org", "mpijobs", ("get", "list", "create", "patch", "delete")),
        ("", "configmaps", ("get", "create", "patch")),
        ("", "services", ("get", "create", "patch")),
        *READ_PODS,
    ),
    # A person who runs `conveyor run --on kubernetes` needs this much (the Role is offered, nobody is bound to it).
    "conveyor-user": (
        ("batch", "jobs", ("get", "create", "delete")),
        ("", "configmaps", ("get", "create", "patch")),
        *READ_PODS,
    ),
}
"""Account → (API group, resource, verbs), all within its namespace."""


def role_rules(account: str) -> list[dict[str, Any]]:
    """Rules of the account's Role; none for an account that needs no Role."""
    return [
        {"apiGroups": [group], "resources": [resource], "verbs": list(verbs)}
        for group, resource, verbs in RULES[account]
    ]
