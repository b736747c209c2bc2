"""The chart on a real cluster: install, run, upgrade, roll back, uninstall, install again; and its schedule."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from components.common.store import Store
from support.chart import helms, template
from support.chart_world import RELEASE, STORE, Release, release
from support.cluster_world import why_no_cluster
from support.images import make_image_folder
from support.schemas import complaints, write_schemas

REASON = why_no_cluster() or (None if helms() else "there is no Helm")
pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(900),
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


def own_objects(made: Release) -> list[str]:
    kinds = "deployments,statefulsets,cronjobs,jobs,services,configmaps,roles,rolebindings,serviceaccounts,networkpolicies"
    found = made.kubectl("get", kinds, "-l", f"app.kubernetes.io/instance={RELEASE}", "-o", "name")
    return [each for each in found.split() if not each.startswith("job.batch/conveyor-")]


def test_from_install_to_uninstall_and_back(made: Release, tmp_path: Path) -> None:
    # Install: the bucket is there, and the release's own test finds everything in order.
    notes = made.install(made.values())
    assert f"--from=cronjob/{RELEASE}-retrain" in notes
    assert "Succeeded" in made.helm("test", RELEASE)
    credentials = made.secret()
    made.upload(make_image_folder(tmp_path / "first", per_class=24, size=(28, 28), fmt="png"))

    # Run: a tick of the schedule trains and promotes the first champion.
    result, steps = made.tick("first")
    assert (result["state"], result["promoted"], result["store"]) == ("succeeded", True, STORE)
    assert steps == STEPS
    with made.store() as store:
        first = champion(store)

    # Upgrade with other settings, then back: what was generated and what was trained stay.
    before = settings(made)
    made.upgrade(made.values(config={"train": {"epochs": 3}}, podLabels={"team": "vision"}))
    assert settings(made) != before
    assert made.secret() == credentials
    made.helm("rollback", RELEASE, "1", "--timeout", "4m")
    assert settings(made) == before
    assert made.secret() == credentials
    with made.store() as store:
        assert champion(store) == first

    # Uninstall: only volume and credentials are left; an install of the same name goes on with them.
    made.helm("uninstall", RELEASE, "--wait")
    assert own_objects(made) == []
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
    made.helm("uninstall", RELEASE, "--wait")
    assert own_objects(made) == []
    assert made.object("secret", f"{RELEASE}-store") is None
    claim = made.object("persistentvolumeclaim", f"{RELEASE}-storage")
    assert claim is None or claim["metadata"].get("deletionTimestamp")


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"metrics": {"enabled": True}, "kubeflow": {"enabled": True}, "example": {"enabled": True}},
        {"storage": {"kind": "external", "existingSecret": "s"}, "config": {"store": {"url": "s3://x"}}},
    ],
    ids=["defaults", "everything", "external"],
)
def test_kubeconform(values: dict[str, Any], tmp_path: Path) -> None:
    rendered = template(next(iter(helms().values())), RELEASE, "ml", json.dumps(values))
    assert complaints(rendered, write_schemas(tmp_path)) == ""
