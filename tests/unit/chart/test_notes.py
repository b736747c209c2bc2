"""What is said after an install: every command names what is there, and none deletes what is the user's own."""

import json
import os
import re
import subprocess
from typing import Any

import pytest

from support.chart import CHART, EXTERNAL, helms, render

if "4" not in helms():
    pytest.skip(
        "no Helm 4 here: older ones ask a cluster before they tell the notes", allow_module_level=True
    )


def notes(values: dict[str, Any]) -> str:
    command = [helms()["4"], "install", "conveyor", str(CHART), "--namespace", "ml", "--dry-run=client"]
    done = subprocess.run(
        [*command, "--values", "-"],
        input=json.dumps(values),
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "KUBECONFIG": os.devnull},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.partition("\nNOTES:\n")[2]


def minio(**settings: Any) -> dict[str, Any]:
    return {"storage": settings}


@pytest.mark.parametrize(
    ("values", "deleted", "told"),
    [
        ({}, "pvc/conveyor-storage secret/conveyor-store", "goes on with\nthem"),
        (minio(existingSecret="mine"), "pvc/conveyor-storage", "goes on with\nit"),
        (minio(minio={"persistence": {"enabled": False}}), "secret/conveyor-store", "gone with MinIO's pod"),
        (
            minio(minio={"persistence": {"existingClaim": "disk"}}),
            "secret/conveyor-store",
            "your volume claim disk",
        ),
        (
            minio(existingSecret="mine", minio={"persistence": {"existingClaim": "disk"}}),
            None,
            "your volume claim disk",
        ),
        (minio(keepData=False), None, "helm uninstall deletes all results"),
        (EXTERNAL, None, "Results go to s3://results/x"),
    ],
    ids=["defaults", "own-secret", "no-volume", "own-claim", "own-both", "not-kept", "external"],
)
def test_only_what_the_chart_made_is_offered_for_deletion(
    values: dict[str, Any], deleted: str | None, told: str
) -> None:
    said = notes(values)
    found = re.findall(r"kubectl delete -n ml (.+)", said)
    assert found == ([deleted] if deleted else [])
    assert told in said
    made = {f"{each['kind'].lower()}/{each['metadata']['name']}" for each in render(values)}
    there = {name.replace("pvc/", "persistentvolumeclaim/") for name in (deleted or "").split()}
    assert there <= made


def test_an_upgrade_keeps_a_newer_charts_defaults() -> None:
    """`--reuse-values` would take the older chart's for all that was not set, and none for what is new."""
    (command,) = re.findall(r"helm upgrade .+", notes({}))
    assert "--reset-then-reuse-values" in command
    assert "--reuse-values" not in command.split()


def test_a_command_that_goes_on_does_not_keep_those_after_it_waiting() -> None:
    assert re.findall(r"kubectl port-forward .+", notes({}))[0].endswith(" &")


def test_approval_is_given_where_the_results_are() -> None:
    said = notes({"config": {"promote": {"approval": True}}})
    assert "conveyor models list --store s3://conveyor/store" in said
    assert "conveyor models promote VERSION --store s3://conveyor/store" in said
    assert "models promote" not in notes({})


@pytest.mark.parametrize("values", [{}, EXTERNAL], ids=["minio", "external"])
def test_the_next_commands_name_objects_that_are_there(values: dict[str, Any]) -> None:
    said = notes(values)
    made = {f"{each['kind'].lower()}/{each['metadata']['name']}" for each in render(values)}
    named = re.findall(r"(?:--from=)?\b(cronjob|service)/(\S+)", said)
    named += re.findall(r"kubectl get (configmap|secret) -n ml (\S+)", said)
    assert {f"{kind}/{name}" for kind, name in named} <= made
    assert {"cronjob/conveyor-retrain", "configmap/conveyor-config"} <= {f"{k}/{n}" for k, n in named}
