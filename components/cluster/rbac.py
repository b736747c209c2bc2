"""Who may do what: the one table that manifests, the chart and the tests of rights are made from."""

from typing import Any

STEP = "conveyor-step"
LAUNCHER = "conveyor-launcher"
STORAGE = "conveyor-storage"
KUBEFLOW = "pipeline-runner"
USER = "conveyor-user"

Rule = tuple[str, str, tuple[str, ...]]

READ_PODS: tuple[Rule, ...] = (
    ("", "pods", ("get", "list")),
    ("", "pods/log", ("get",)),
    ("", "events", ("list",)),
)

# Makes and follows steps: patch adds an owner to what another launcher made; a Kubeflow task that is stopped lists the
# training Jobs of its run.
LAUNCH: tuple[Rule, ...] = (
    ("batch", "jobs", ("get", "list", "create", "patch", "delete")),
    ("kubeflow.org", "mpijobs", ("get", "list", "create", "patch", "delete")),
    ("", "configmaps", ("get", "create", "patch")),
    ("", "services", ("get", "create", "patch")),
    *READ_PODS,
)

RULES: dict[str, tuple[Rule, ...]] = {
    # Steps never ask the API server: they have no token.
    STEP: (),
    STORAGE: (),
    LAUNCHER: LAUNCH,
    # A Kubeflow run's train task launches the training's pods. What Kubeflow itself needs is Kubeflow's to grant.
    KUBEFLOW: LAUNCH,
    # A person who runs `conveyor run --on kubernetes`, or starts the schedule's work by hand, and looks on with kubectl
    # (the Role is offered; the chart binds whom `rbac.users` names). The Secret is not among it.
    USER: (
        ("batch", "jobs", ("get", "list", "watch", "create", "delete")),
        ("batch", "cronjobs", ("get", "list")),
        ("", "configmaps", ("get", "create", "patch")),
        ("", "pods", ("get", "list", "watch")),
        ("", "pods/log", ("get",)),
        ("", "events", ("list",)),
    ),
}
"""Account → (API group, resource, verbs), all within its namespace."""


def role_rules(account: str) -> list[dict[str, Any]]:
    """Rules of the account's Role; none for an account that needs no Role."""
    return [
        {"apiGroups": [group], "resources": [resource], "verbs": list(verbs)}
        for group, resource, verbs in RULES[account]
    ]
