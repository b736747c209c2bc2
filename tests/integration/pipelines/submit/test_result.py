"""How a run that was followed ended: whose result is told, and with which exit status."""

import json
import os
from pathlib import Path

import pytest

from support.kfp_server import KfpServer
from support.submitting import PROMOTED, leave_result, only, submit

pytestmark = pytest.mark.integration

ENDPOINT = "CONVEYOR_S3_ENDPOINT"


def test_a_refused_model_ends_with_4(
    server: KfpServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    leave_result(server.backend, tmp_path, **(PROMOTED | {"promoted": False}))
    assert submit(server, "--store", str(tmp_path), "--json") == 4
    told = json.loads(capsys.readouterr().out)
    assert (told["state"], told["promoted"], told["kubeflow_state"]) == ("succeeded", False, "SUCCEEDED")
    assert told["kubeflow_run"] in server.backend.runs


def test_a_failed_step_ends_with_3_and_what_kubeflow_knows(
    server: KfpServer, capsys: pytest.CaptureFixture[str]
) -> None:
    server.backend.fail_step = "train"
    assert submit(server, "--store", "s3://b/p") == 3
    captured = capsys.readouterr()
    assert "the run failed in train" in captured.err
    assert "train failed" in captured.err
    assert "report done" in captured.err
    assert "evaluate" not in captured.err
    assert "the store cannot be read from here" in captured.err


def test_a_failed_steps_own_words_are_told_where_the_store_can_be_read(
    server: KfpServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.backend.fail_step = "ingest"
    error = {"step": "ingest", "what": "there are no images", "todo": "look", "exit_code": 2}
    leave_result(server.backend, tmp_path, state="failed", error=error)
    assert submit(server, "--store", str(tmp_path)) == 2
    captured = capsys.readouterr()
    assert "ingest: there are no images" in captured.err
    assert "to do: look" in captured.err


def test_a_cancelled_run_ends_with_3(server: KfpServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert submit(server, "--store", "s3://b/p", "--detach") == 0
    run_id = only(server.backend.runs)["run_id"]
    server.backend.terminate(run_id)
    capsys.readouterr()
    assert submit(server, "--attach", run_id, "--json") == 3
    captured = capsys.readouterr()
    assert "the run was cancelled in Kubeflow" in captured.err
    told = json.loads(captured.out)
    assert (told["state"], told["kubeflow_state"]) == ("failed", "CANCELED")
    assert told["error"]["what"] == "the run was cancelled in Kubeflow"


def test_of_a_cancelled_run_the_last_task_still_reports(
    server: KfpServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    error = {"step": "train", "what": "interrupted", "exit_code": 3}
    leave_result(server.backend, tmp_path, state="failed", error=error)
    assert submit(server, "--store", str(tmp_path), "--detach") == 0
    run = only(server.backend.runs)
    for _ in range(100):
        if run.get("working") == "train":
            break
        server.backend.get_run(run["run_id"])
    server.backend.terminate(run["run_id"])
    capsys.readouterr()
    assert submit(server, "--attach", run["run_id"], "--json") == 3
    captured = capsys.readouterr()
    assert "train failed" in captured.err
    assert "report done" in captured.err
    assert "evaluate" not in captured.err
    told = json.loads(captured.out)
    assert (told["state"], told["kubeflow_state"], told["error"]["step"]) == ("failed", "CANCELED", "train")


def test_the_state_is_what_the_exit_status_says(
    server: KfpServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All steps ended well, the last task did not."""
    server.backend.fail_step = "report"
    leave_result(server.backend, tmp_path, **PROMOTED)
    assert submit(server, "--store", str(tmp_path), "--json") == 3
    told = json.loads(capsys.readouterr().out)
    assert (told["state"], told["promoted"]) == ("failed", True)
    assert told["error"]["what"] == "the run failed in report"


def test_the_store_is_reached_as_the_config_says(
    server: KfpServer,
    s3_store_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    leave_result(server.backend, s3_store_url, **(PROMOTED | {"promoted": False}))
    endpoint = os.environ[ENDPOINT]
    (tmp_path / "c.yaml").write_text(f"store: {{url: '{s3_store_url}', endpoint: '{endpoint}'}}")
    assert submit(server, "-f", str(tmp_path / "c.yaml"), "--detach") == 0
    run_id = only(server.backend.runs)["run_id"]
    for _ in range(30):
        if server.backend.get_run(run_id)["state"] == "SUCCEEDED":
            break
    monkeypatch.delenv(ENDPOINT, raising=False)
    capsys.readouterr()
    assert submit(server, "--attach", run_id) == 4, capsys.readouterr().err


def test_the_result_of_another_run_of_the_name_is_not_told(
    server: KfpServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    leave_result(server.backend, tmp_path, **PROMOTED)
    assert submit(server, "--store", str(tmp_path), "--run", "nightly") == 0
    server.backend.runs.clear()
    assert submit(server, "--store", str(tmp_path), "--run", "nightly", "--detach") == 0
    run_id = only(server.backend.runs)["run_id"]
    server.backend.terminate(run_id)
    capsys.readouterr()
    assert submit(server, "--attach", run_id, "--json") == 3
    captured = capsys.readouterr()
    assert "the result in the store is of another run of this name" in captured.err
    told = json.loads(captured.out)
    assert (told["state"], told["run"], "metrics" in told) == ("failed", "nightly", False)


def test_a_run_without_a_name_has_kubeflows_so_that_a_clone_has_another(
    server: KfpServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    leave_result(server.backend, tmp_path, **PROMOTED)
    assert submit(server, "--store", str(tmp_path), "--json") == 0
    run = only(server.backend.runs)
    assert "run" not in run["parameters"]
    assert json.loads(capsys.readouterr().out)["run"] == run["run_id"]
    clone = server.backend.create_run(
        {name: run[name] for name in ("display_name", "pipeline_version_reference", "runtime_config")}
    )
    assert submit(server, "--attach", clone["run_id"], "--json") == 0
    assert json.loads(capsys.readouterr().out)["run"] == clone["run_id"]
