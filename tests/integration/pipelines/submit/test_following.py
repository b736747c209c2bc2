"""Following a run that was submitted, until it ends or whoever follows it does."""

import signal
import subprocess
from pathlib import Path

import pytest

from components.common.progress import make_reporter
from pipelines.graph import GRAPH
from pipelines.kubeflow.runs import find, follow
from pipelines.kubeflow.server import Address, Server
from support.kfp_server import KfpServer
from support.small_pipeline import command, environment
from support.submitting import PROMOTED, QUICK, leave_result, only, submit

pytestmark = pytest.mark.integration


def test_detached_and_attached_again(
    server: KfpServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    leave_result(server.backend, tmp_path, **PROMOTED)
    assert submit(server, "--store", str(tmp_path), "--run", "x", "--detach") == 0
    run_id = only(server.backend.runs)["run_id"]
    captured = capsys.readouterr()
    assert f"conveyor submit --attach {run_id} --host {server.url}" in captured.out
    assert f"{server.url}/#/runs/details/{run_id}" in captured.err
    assert only(server.backend.runs)["state"] == "PENDING"
    assert submit(server, "--attach", run_id) == 0
    assert "run x succeeded" in capsys.readouterr().out
    assert submit(server, "--attach", "nonsense") == 2
    assert "404" in capsys.readouterr().err


def test_a_server_that_does_not_answer_for_a_while_is_asked_again(
    server: KfpServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    leave_result(server.backend, tmp_path, **PROMOTED)
    assert submit(server, "--store", str(tmp_path), "--detach") == 0
    run_id = only(server.backend.runs)["run_id"]
    looks = iter(range(100))
    server.stumbles = lambda request: request == f"GET /runs/{run_id}" and 503 * (next(looks) in {2, 3})
    capsys.readouterr()
    assert submit(server, "--attach", run_id) == 0
    captured = capsys.readouterr()
    assert captured.err.count("the Kubeflow server cannot answer just now; asking again") == 2
    assert "run" in captured.out


def test_a_server_that_fails_for_a_moment_does_not_end_the_following(
    server: KfpServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    leave_result(server.backend, tmp_path, **PROMOTED)
    answers = iter([0, 500, 0, 401, 403, 502])
    server.stumbles = lambda request: next(answers, 0) if request.startswith("GET /runs/") else 0
    assert submit(server, "--store", str(tmp_path)) == 0
    assert capsys.readouterr().err.count("asking again") == 4


@pytest.mark.parametrize("status", [401, 400])
def test_following_that_ends_early_says_that_the_run_goes_on(
    server: KfpServer, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    server.stumbles = lambda request: status if request.startswith("GET /runs/") else 0
    assert submit(server, "--store", "s3://b/p") == 2
    error = capsys.readouterr().err
    assert "the run goes on" in error
    run_id = only(server.backend.runs)["run_id"]
    assert f"conveyor submit --attach {run_id} --host {server.url}   follows it again" in error
    assert error.count("asking again") == (5 if status == 401 else 0)


def test_a_run_that_was_deleted_does_not_go_on(server: KfpServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.stumbles = lambda request: 404 if request.startswith("GET /runs/") else 0
    assert submit(server, "--store", "s3://b/p") == 2
    assert "goes on" not in capsys.readouterr().err


def test_a_token_that_is_renewed_while_the_run_is_followed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    token = tmp_path / "token"
    token.write_text("first")
    with KfpServer(token="first") as server:
        leave_result(server.backend, tmp_path, **PROMOTED)
        looks = iter(range(100))

        def renew(request: str) -> int:
            look = next(looks) if request.startswith("GET /runs/") else -1
            if look == 2:
                server.token = "second"
            elif look == 4:
                token.write_text("second")
            return 0

        server.stumbles = renew
        assert submit(server, "--store", str(tmp_path), "--token-file", str(token)) == 0
    assert capsys.readouterr().err.count("does not know who is asking; asking again") == 3


def test_a_pod_that_does_not_start_is_told_once(
    server: KfpServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """Kubeflow itself shows the step as running, for ever."""
    server.backend.stuck_step = "train"
    assert submit(server, "--store", "s3://b/p", "--detach") == 0
    run_id = only(server.backend.runs)["run_id"]
    waiting: set[str] = set()
    seconds = iter(range(1000))

    def clock() -> float:
        """A second for each look; after forty somebody terminates the run."""
        second = next(seconds)
        details = only(server.backend.runs)["run_details"]["task_details"]
        waiting.update(detail["pod_name"] for detail in details if detail["state"] == "PENDING")
        if second == 40:
            server.backend.terminate(run_id)
        return float(second)

    again = Server(Address(host=server.url))
    end = follow(
        again,
        find(again, run_id),
        GRAPH.names(),
        make_reporter(),
        again="",
        poll_s=0.0,
        patience_s=10.0,
        clock=clock,
    )
    error = capsys.readouterr().err
    assert end.state == "CANCELED"
    (pod,) = waiting
    assert error.count("train waits for its pod, which has not started for 10 s") == 1
    assert f"kubectl describe pod {pod}" in error


def test_ctrl_c_leaves_the_run_going(server: KfpServer, tmp_path: Path) -> None:
    server.backend.stay_running = True
    process = subprocess.Popen(
        command(["submit", "--host", server.url, *QUICK, "--store", "s3://b/p", "--run", "long"]),
        cwd=tmp_path,
        env=environment({"KUBECONFIG": str(tmp_path / "none")}),
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    lines = []
    for line in process.stderr:
        lines.append(line)
        if "following run long" in line:
            break
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, (lines, out, err)
    run_id = only(server.backend.runs)["run_id"]
    assert "goes on in Kubeflow" in err
    assert f"conveyor submit --attach {run_id}" in err
    assert only(server.backend.runs)["state"] == "PENDING"
