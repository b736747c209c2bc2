"""The chart on a real cluster: install, run, upgrade, roll back, uninstall, install again; and its schedule.

With Helm 4 from the first training to the last; with Helm 3 without training, but with what else can be seen of a release:
its test, the accounts' rights, and what is said of a wrong Secret.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.common.store import Store
from support.chart import CASES, CHART, helms, render
from support.chart_world import PATIENCE, RELEASE, STORE, Release, release
from support.cluster_world import credentials as store_secret
from support.cluster_world import why_no_cluster
from support.images import make_image_folder
from support.schemas import complaints, write_schemas

REASON = why_no_cluster() or (None if helms() else "there is no Helm")
pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(1500),
    pytest.mark.skipif(REASON is not None, reason=f"no cluster: {REASON}"),
]
STEPS = ["compress", "evaluate", "ingest", "preprocess", "promote", "train"]


@pytest.fixture(scope="module")
def made() -> Iterator[Release]:
    with release("chart", helm=helms().get("4", next(iter(helms().values())))) as found:
        yield found


def champion(store: Store) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(store.read("registry/stripes/champion.json")[0])
    return found


def settings(made: Release) -> str:
    found = made.object("configmap", f"{RELEASE}-config")
    assert found is not None
    return str(found["data"]["config.yaml"])


def test_from_install_to_uninstall_and_back(made: Release, tmp_path: Path) -> None:
    # Install: the bucket is there.
    notes = made.install(made.values())
    assert f"--from=cronjob/{RELEASE}-retrain" in notes
    credentials = made.secret()
    made.upload(make_image_folder(tmp_path / "first", per_class=24, size=(28, 28), fmt="png"))

    # Run: a tick of the schedule trains and promotes the first champion.
    result, steps = made.tick("first")
    assert (result["state"], result["promoted"], result["store"]) == ("succeeded", True, STORE)
    assert steps == STEPS
    with made.store() as store:
        first = champion(store)

    # Neither of the credentials stands in what the API server holds but the Secret, nor in a log.
    objects, logs = made.held()
    for value in credentials.values():
        assert value not in objects
        assert value not in "".join(logs.values())
    spoke = " ".join(name for name, log in logs.items() if log.strip())
    assert all(f"conveyor-{step}-" in spoke for step in STEPS), "every step has said something"
    assert '{"run"' in "".join(log for name, log in logs.items() if name.startswith("first-"))

    # Upgrade with other settings, then back: what was generated and what was trained stay.
    before = settings(made)
    made.upgrade(made.values(config={"train": {"epochs": 3}}, podLabels={"team": "vision"}))
    assert settings(made) != before
    assert made.secret() == credentials
    made.helm("rollback", RELEASE, "1", *PATIENCE)
    assert settings(made) == before
    assert made.secret() == credentials
    with made.store() as store:
        assert champion(store) == first

    # Uninstall: only volume and credentials are left; an install of the same name goes on with them.
    made.uninstall()
    assert made.object("persistentvolumeclaim", f"{RELEASE}-storage") is not None
    made.install(made.values())
    assert made.secret() == credentials
    with made.store() as store:
        assert champion(store) == first

    # A tick with nothing new: it ends after having looked at the source.
    result, steps = made.tick("nothing-new")
    assert (result["state"], list(result["steps"])) == ("unchanged", ["ingest"])
    assert steps == []

    # New images, and a gate that no model passes: trained anew, refused, and no failure of the Job.
    more = make_image_folder(tmp_path / "more", per_class=30, size=(28, 28), fmt="png")
    made.upload(more)
    made.upgrade(made.values(config={"promote": {"min_accuracy": 1.0, "max_size_bytes": 1}}))
    result, steps = made.tick("refused")
    assert (result["state"], result["promoted"]) == ("succeeded", False)
    assert steps == STEPS
    with made.store() as store:
        assert champion(store) == first

    # The same without that gate: the champion changes exactly where the run says that the newcomer won.
    made.upgrade(made.values())
    result, _ = made.tick("judged")
    assert result["state"] == "succeeded"
    with made.store() as store:
        assert (champion(store) != first) is result["promoted"]

    # Gone for good where that is asked for.
    asked = made.values()
    asked["storage"]["keepData"] = False
    made.upgrade(asked)
    made.uninstall()
    assert made.object("secret", f"{RELEASE}-store") is None
    assert is_going(made, "persistentvolumeclaim", f"{RELEASE}-storage")


def is_going(made: Release, kind: str, name: str) -> bool:
    found = made.object(kind, name)
    return found is None or "deletionTimestamp" in found["metadata"]


def test_helm_3_and_what_a_release_says_of_itself() -> None:
    with release("helm3", helm=helms().get("3", next(iter(helms().values())))) as made:
        ada = {"kind": "User", "name": "ada", "apiGroup": "rbac.authorization.k8s.io"}
        values = made.values(rbac={"users": [ada]}, kubeflow={"enabled": True, "createServiceAccount": True})
        made.install(values)
        said = made.helm("test", RELEASE, "--logs")
        assert "Succeeded" in said
        assert "s3://conveyor/store" in said
        credentials, before = made.secret(), settings(made)
        rights(made)
        wrong_secret(made)

        made.upgrade({**values, "podLabels": {"team": "vision"}})
        assert settings(made) != before
        made.helm("rollback", RELEASE, "1", *PATIENCE)
        assert (settings(made), made.secret()) == (before, credentials)

        # The next check would replace the pod of the last one; who uninstalls removes it by hand (docs/kubernetes/chart.md).
        made.uninstall(leaves=[f"pod/{RELEASE}-test"])
        assert made.object("persistentvolumeclaim", f"{RELEASE}-storage") is not None
        values["storage"]["keepData"] = False
        made.install(values)
        assert made.secret() == credentials
        made.uninstall(leaves=[f"pod/{RELEASE}-test"])
        assert made.object("secret", f"{RELEASE}-store") is None
        assert is_going(made, "persistentvolumeclaim", f"{RELEASE}-storage")


def rights(made: Release) -> None:
    """What the chart binds the accounts to; test_security has the whole table."""
    for account in ("conveyor-launcher", "pipeline-runner"):
        assert can(made, account, "create", "jobs.batch")
        assert not can(made, account, "list", "secrets")
        assert not can(made, account, "create", "pods", "--subresource", "exec")
    for account in ("conveyor-step", "conveyor-storage"):
        assert not can(made, account, "get", "pods")
    # A person does what the notes name as the next command, and looks on.
    first = ["create", "job", f"--from=cronjob/{RELEASE}-retrain", "first", "--dry-run=server", "--as", "ada"]
    assert "created" in made.kubectl(*first)
    assert f"{RELEASE}-storage-0" in made.kubectl("get", "jobs,pods", "--as", "ada")
    assert made.kubectl("get", "secrets", "--as", "ada", check=False) == ""


def can(made: Release, account: str, verb: str, *what: str) -> bool:
    who = f"system:serviceaccount:{made.namespace}:{account}"
    return made.kubectl("auth", "can-i", verb, *what, "--as", who, check=False).split()[-1] == "yes"


def wrong_secret(made: Release) -> None:
    """A second release with this one's store, and a Secret that is not its own: the install says so itself."""
    made.apply(store_secret(made.secret()["access-key"], "not-the-secret", "wrong"))
    values = made.values(
        storage={"kind": "external", "existingSecret": "wrong"},
        config={"store": {"url": STORE, "endpoint": f"http://{RELEASE}-storage:9000"}},
    )
    for major, program in helms().items():
        said = made.helm(
            "install",
            f"wrong-{major}",
            str(CHART),
            *PATIENCE,
            values=values,
            check=False,
            program=program,
        )
        assert "INSTALLATION FAILED" in said, said
        assert "the store refused the credentials" in said, said
        assert "not-the-secret" not in said
        made.helm("uninstall", f"wrong-{major}", program=program)


@pytest.fixture(scope="module")
def schemas(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_schemas(tmp_path_factory.mktemp("schemas"))


@pytest.mark.parametrize("values", CASES.values(), ids=CASES)
def test_kubeconform(values: dict[str, Any], schemas: str) -> None:
    # The Prometheus operator's kinds are not in this cluster.
    known = [each for each in render(values) if not each["apiVersion"].startswith("monitoring.coreos.com/")]
    assert complaints(yaml.safe_dump_all(known), schemas) == ""
