"""Questions from within a cluster, which `helm test` asks: is what the installed settings count on really there?"""

from components.cluster.rbac import LAUNCHER, RULES
from components.common.errors import ConveyorError
from components.common.sections import RootBase
from pipelines.doctor.check import Check, Probe

LIMIT_S = 120.0
REQUEST_S = 10.0


def probes_inside(config: RootBase) -> list[Probe]:
    """What to ask about the store of these settings, and about the rights of the account that this pod runs as."""
    return [
        Probe("store", lambda: store(config), LIMIT_S),
        Probe("rights", rights, LIMIT_S),
    ]


def store(config: RootBase) -> Check:
    """Reachable with these credentials, writable, honours both conditional headers."""
    try:
        config.store.open().check()
    except ConveyorError as error:
        details = (error.what, error.where, error.found)
        return Check("store", "failed", "; ".join(text for text in details if text), error.todo or "")
    return Check("store", "ok", f"{config.store.url}: reachable, writable, conditional puts hold")


def rights() -> Check:
    """Each verb that a launcher uses, asked of the API server itself."""
    from kubernetes import client, config

    try:
        config.load_incluster_config()
        namespace = _namespace()
    except (config.ConfigException, OSError) as error:
        return Check(
            "rights", "failed", str(error), "run this in a pod with the launcher's account and its token"
        )
    api = client.AuthorizationV1Api()
    refused = []
    for group, resource, verbs in RULES[LAUNCHER]:
        name, _, part = resource.partition("/")
        for verb in verbs:
            asked = client.V1ResourceAttributes(
                group=group, resource=name, subresource=part or None, verb=verb, namespace=namespace
            )
            review = client.V1SelfSubjectAccessReview(
                spec=client.V1SelfSubjectAccessReviewSpec(resource_attributes=asked)
            )
            answer = api.create_self_subject_access_review(review, _request_timeout=REQUEST_S)
            if not answer.status.allowed:
                refused.append(f"{verb} {resource}")
    if refused:
        cure = "bind the account to a Role with these verbs (the chart's is made with rbac.create: true)"
        return Check("rights", "failed", f"refused in {namespace}: {', '.join(refused)}", cure)
    return Check("rights", "ok", f"a launcher may do in {namespace} all that it needs to")


def _namespace() -> str:
    from components.cluster.connect import ACCOUNT

    return (ACCOUNT / "namespace").read_text().strip()
