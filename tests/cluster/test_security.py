"""What each account may do, and that every pod of every overlay is admitted where `restricted` is enforced."""

import json
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from components.cluster.rbac import RULES
from support.applied import applied_to, make_secret
from support.cluster_world import (
    READY_S,
    Object,
    World,
    accounts,
    delete_namespace,
    kubectl,
    wait_until,
    why_no_cluster,
)
from support.rendered import MANIFESTS, OVERLAYS, combine, objects, rendered, templates
from support.schemas import complaints, write_schemas

REASON = why_no_cluster()
pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(600),
    pytest.mark.skipif(REASON is not None, reason=f"no cluster: {REASON}"),
]
KINDS = ("pods", "secrets", "configmaps", "services", "jobs.batch", "mpijobs.kubeflow.org", "events", "nodes")
VERBS = ("get", "list", "watch", "create", "update", "patch", "delete", "deletecollection")
NEVER = (
    ("list", "secrets"),
    ("get", "secrets"),
    ("create", "pods/exec"),
    ("create", "pods"),
    ("create", "serviceaccounts/token"),
    ("create", "rolebindings.rbac.authorization.k8s.io"),
    ("impersonate", "users"),
)


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """A namespace with every account and its Role, as manifests and chart make them."""
    made = World(f"test-security-{secrets.token_hex(3)}")
    marks = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
    namespace = {"metadata": {"name": made.namespace, "labels": {**marks, "conveyor-test": "1"}}}
    kubectl("create", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "Namespace", **namespace}))
    try:
        made.apply(*accounts(made.namespace, list(RULES)))
        yield made
    finally:
        delete_namespace(made)


@pytest.fixture(scope="module")
def schemas(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_schemas(tmp_path_factory.mktemp("schemas"))


def test_an_account_may_do_what_it_needs_and_nothing_else(world: World) -> None:
    for account in RULES:
        needed = {
            (verb, f"{resource}.{group}" if group else resource)
            for group, resource, verbs in RULES[account]
            for verb in verbs
        }
        asked = needed | set(NEVER) | {(verb, kind) for verb in VERBS for kind in KINDS}
        assert allowed(world, account, world.namespace, asked) == needed
        assert not needed & set(NEVER)
        for namespace in ("default", "kube-system"):
            assert not allowed(world, account, namespace, needed | set(NEVER))


def allowed(world: World, account: str, namespace: str, asked: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """What of it the API server would allow: the question behind `kubectl auth can-i --as`, all of them at once."""
    questions = sorted(asked)
    reviews = [review(world, account, namespace, *each) for each in questions]
    document = {"apiVersion": "v1", "kind": "List", "items": reviews}
    # One line an answer, in the order of the questions.
    path = "jsonpath={.status.allowed}{'\\n'}"
    answers = kubectl("create", "-o", path, "-f", "-", stdin=json.dumps(document)).split()
    return {each for each, answer in zip(questions, answers, strict=True) if answer == "true"}


def review(world: World, account: str, namespace: str, verb: str, resource: str) -> Object:
    plain, _, subresource = resource.partition("/")
    kind, _, group = plain.partition(".")
    return {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {
            "user": f"system:serviceaccount:{world.namespace}:{account}",
            "groups": [
                "system:serviceaccounts",
                f"system:serviceaccounts:{world.namespace}",
                "system:authenticated",
            ],
            "resourceAttributes": {
                "namespace": namespace,
                "verb": verb,
                "group": group,
                "resource": kind,
                "subresource": subresource,
            },
        },
    }


def test_kubectl_itself_says_the_same(world: World) -> None:
    user = f"--as=system:serviceaccount:{world.namespace}:conveyor-launcher"
    assert world.kubectl("auth", "can-i", "create", "jobs", user).strip() == "yes"
    assert world.kubectl("auth", "can-i", "list", "secrets", user, check=False).strip() == "no"
    assert world.kubectl("auth", "can-i", "create", "pods/exec", user, check=False).strip() == "no"


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_an_overlay_is_valid_and_admitted_without_a_warning(world: World, schemas: str, overlay: str) -> None:
    assert complaints(rendered(overlay), schemas) == ""
    admitted(world, rendered(overlay))


def test_so_is_one_of_nearly_all_parts(world: World, schemas: str, tmp_path: Path) -> None:
    """Components change an MPIJob by position, which only the API server can tell from a broken one."""
    shutil.copytree(MANIFESTS, tmp_path / "manifests")
    components = ("pod-identity", "gpu", "gpu-evaluate-compress")
    name = combine(tmp_path / "manifests", ("retrain", "mpijob", "network-s3"), components)
    text = rendered(name, tmp_path / "manifests")
    assert complaints(text, schemas) == ""
    admitted(world, text)


def admitted(world: World, manifests: str) -> None:
    done = subprocess.run(
        ["kubectl", "-n", world.namespace, "apply", "--dry-run=server", "-f", "-"],
        input=manifests,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr.strip(), "a warning: restricted, or a deprecated field"


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_pod_itself_is_admitted(world: World, overlay: str) -> None:
    """A Job is accepted whatever its template says; the pods of a broken one would only never come."""
    found: list[Object] = []
    for number, (name, template) in enumerate(templates(overlay)):
        volumes = template["spec"].get("volumes", [])
        if name.startswith("StatefulSet/"):
            volumes = [*volumes, {"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {**template["metadata"], "name": f"pod-{number}"},
            "spec": {"restartPolicy": "Never", **template["spec"], "volumes": volumes},
        }
        found.append(pod)
    document = {"apiVersion": "v1", "kind": "List", "items": found}
    # Every account exists here, so nothing but the standard itself can refuse them.
    made = world.kubectl("create", "--dry-run=server", "-o", "name", "-f", "-", stdin=json.dumps(document))
    assert len(made.split()) == len(found) > 0


def test_no_credential_stands_in_anything_but_the_secret(tmp_path: Path) -> None:
    """Applied for real: what the API server then holds has the secret's value nowhere, nor have arguments and logs."""
    with applied_to("local", tmp_path) as overlay:
        overlay.configure({"ingest": {"source": "s3://x/y"}, "store": {"url": "s3://conveyor/store"}})
        make_secret(overlay.world)
        overlay.apply()
        world = overlay.world
        world.kubectl("rollout", "status", "statefulset/conveyor-storage", f"--timeout={READY_S}s")
        logs = wait_until("a word of who waits, and of the storage", lambda: spoken(world), every_s=1)
        kinds = "configmaps,jobs,pods,statefulsets,services,serviceaccounts,events"
        held = world.kubectl("get", kinds, "-o", "json")
        for value in (world.secret_key, world.access_key):
            assert value not in held
            assert value not in logs


def spoken(world: World) -> str | None:
    """All logs, once the storage has said something, and a pod that waits for another step."""
    names = world.kubectl("get", "pods", "-o", "name").split()
    told = ("--all-containers", "--prefix", "--tail=-1", "--ignore-errors")
    logs = "".join(world.kubectl("logs", name, *told, check=False) for name in names)
    return logs if "/conveyor-storage-0/" in logs and "/wait-for-" in logs else None


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_pod_has_an_account_of_the_table(overlay: str) -> None:
    """Who names none gets `default`, which may be allowed anything in a namespace that is not ours."""
    found = objects(overlay)
    made = {each["metadata"]["name"] for each in found if each["kind"] == "ServiceAccount"}
    used = [(name, template["spec"].get("serviceAccountName")) for name, template in templates(overlay)]
    assert used
    assert [each for each in used if each[1] not in made & RULES.keys()] == []
    # No other kind of theirs makes pods.
    assert sum(json.dumps(each).count('"containers":') for each in found) == len(used)
