"""`conveyor submit` against a server that speaks Kubeflow's REST API v2beta1 (support/kfp_server.py)."""

import json
import os
import shlex
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.cluster.config import KubernetesConfig, resources_for
from components.common.canonical import canonical_json
from components.common.progress import make_reporter
from components.common.store import open_store
from pipelines.cli import invoke
from pipelines.graph import GRAPH
from pipelines.kubeflow.files import version_name, write_yaml
from pipelines.kubeflow.runs import find, follow
from pipelines.kubeflow.server import Address, Server
from support.kfp_backend import Backend
from support.kfp_checks import Object
from support.kfp_server import KfpServer
from support.small_pipeline import command, environment

pytestmark = pytest.mark.integration

ENDPOINT = "CONVEYOR_S3_ENDPOINT"
QUICK = ("--poll", "0.01")


@pytest.fixture(autouse=True)
def _no_server_of_the_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in (
        "KF_PIPELINES_ENDPOINT",
        "KF_PIPELINES_TOKEN",
        "KF_PIPELINES_SA_TOKEN_PATH",
        "KF_PIPELINES_COOKIE",
        "KUBERNETES_SERVICE_HOST",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))


@pytest.fixture
def server() -> Iterator[KfpServer]:
    with KfpServer() as running:
        yield running


def submit(server: KfpServer, *arguments: str) -> int:
    return invoke(["submit", "--host", server.url, *QUICK, *arguments])


def only(objects: dict[str, Object]) -> Object:
    (found,) = objects.values()
    return found


def leave_result(backend: Backend, store: Path | str, **result: Any) -> None:
    """Have runs leave that in the store when they end, as their last task does."""

    def write(run: Object) -> None:
        name = run["parameters"].get("run") or run["run_id"]
        document: Any = {
            "version": 1,
            "job": run["run_id"],
            "result": {"run": name, "state": "succeeded", "store": str(store), **result},
        }
        open_store(str(store)).put(f"runs/{name}/result.json", canonical_json(document))

    backend.on_end = write


PROMOTED = {"model": {"version": 3, "digest": "x"}, "promoted": True, "metrics": {"accuracy": 0.9}}


def test_a_run_is_uploaded_started_and_followed(
    server: KfpServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    leave_result(server.backend, tmp_path, **PROMOTED)
    (tmp_path / "c.yaml").write_text("train: {batch_size: 64}\npromote: {min_accuracy: 0.5}")
    status = submit(
        server,
        *("-f", str(tmp_path / "c.yaml"), "--store", str(tmp_path), "--source", "s3://bucket/images"),
        *("--epochs", "3", "--param", "training_pods=2", "--run", "nightly", "--image", "r.example/c:1"),
        *("--experiment", "pictures"),
    )
    captured = capsys.readouterr()
    assert status == 0, captured.err
    run = only(server.backend.runs)
    assert run["display_name"] == "conveyor nightly"
    parameters = run["parameters"]
    assert json.loads(json.dumps(parameters | {"config": ""})) == {
        "store": str(tmp_path),
        "source": "s3://bucket/images",
        "epochs": 3,
        "training_pods": 2,
        "run": "nightly",
        "config": "",
    }
    assert "batch_size: 64" in parameters["config"]
    assert server.backend.experiments[run["experiment_id"]]["display_name"] == "pictures"
    version = server.backend.versions[run["pipeline_version_reference"]["pipeline_version_id"]]
    executors = version["pipeline_spec"]["deploymentSpec"]["executors"]
    assert {e["container"]["image"] for e in executors.values()} == {"r.example/c:1"}
    for number, name in enumerate((*GRAPH.names(), "report"), start=1):
        assert f"[{number}/{len(GRAPH) + 1}] {name} done" in captured.err
    assert "run nightly succeeded" in captured.out
    assert "90.00 %" in captured.out
    assert "Run details" not in captured.out  # kfp's own chatter


def test_the_same_pipeline_is_one_version(server: KfpServer) -> None:
    for run in ("a", "b"):
        assert submit(server, "--store", "s3://b/p", "--run", run, "--epochs", "2", "--detach") == 0
    assert len(server.backend.runs) == 2
    assert len(server.backend.pipelines) == 1
    assert (
        len(
            {run["pipeline_version_reference"]["pipeline_version_id"] for run in server.backend.runs.values()}
        )
        == 1
    )
    assert submit(server, "--store", "s3://b/p", "--image", "other:1", "--detach") == 0
    assert (
        len(
            {run["pipeline_version_reference"]["pipeline_version_id"] for run in server.backend.runs.values()}
        )
        == 2
    )


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


def test_two_first_submissions_at_once_share_pipeline_version_and_experiment(
    server: KfpServer, tmp_path: Path
) -> None:
    """The other one is always faster by a moment: it has made each thing when ours is about to."""
    write_yaml(GRAPH, tmp_path / "p.yaml")
    data, backend = (tmp_path / "p.yaml").read_bytes(), server.backend
    version = version_name(data)
    others: list[Object] = []

    def be_faster(request: str) -> int:
        if request == "POST /pipelines/upload":
            others.append(backend.upload_pipeline(data, "conveyor", "", ""))
        elif request == "POST /pipelines/upload_version":
            others.append(backend.upload_version(data, version, "", others[0]["pipeline_id"]))
        elif request == "POST /experiments":
            others.append(backend.create_experiment({"display_name": "conveyor"}))
        return 0

    server.stumbles = be_faster
    assert submit(server, "--store", "s3://b/p", "--detach") == 0
    assert len(others) == 3
    run = only(backend.runs)
    assert run["pipeline_version_reference"] == {
        "pipeline_id": others[0]["pipeline_id"],
        "pipeline_version_id": others[1]["pipeline_version_id"],
    }
    assert run["experiment_id"] == others[2]["experiment_id"]


def test_the_train_tasks_pod_is_small_where_others_train(server: KfpServer) -> None:
    memory = {}
    for pods in (1, 2):
        server.backend.versions.clear()
        assert submit(server, "--store", "s3://b/p", "--param", f"training_pods={pods}", "--detach") == 0
        (version,) = (v for v in server.backend.versions.values() if v["name"] != "conveyor")
        container = version["pipeline_spec"]["deploymentSpec"]["executors"]["exec-train"]["container"]
        memory[pods] = container["resources"]["resourceMemoryLimit"]
    settings = KubernetesConfig()
    assert memory == {
        1: resources_for(settings, "train").memory,
        2: resources_for(settings, "launcher").memory,
    }
    assert submit(server, "--store", "s3://b/p", "--param", "training_pods=1000", "--detach") == 2


def test_an_image_that_only_this_machine_has_is_doubted(
    server: KfpServer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert submit(server, "--store", "s3://b/p", "--detach") == 0
    assert "the image is conveyor:latest" in capsys.readouterr().err
    assert submit(server, "--store", "s3://b/p", "--detach", "--image", "r.example/c:1") == 0
    assert "the image is" not in capsys.readouterr().err


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


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "no store is given"),
        (("--store", "relative/folder"), "the pods cannot reach a store"),
        (("--store", "s3://b/p", "--source", "photos"), "the pods cannot reach a source"),
        (("--store", "s3://b/p", "--param", "epoch=3"), "the pipeline has no such parameter"),
        (("--store", "s3://b/p", "--param", "epochs=many"), "whole number"),
        (("--store", "s3://b/p", "--set", "train.epoch=3"), "did you mean train.epochs?"),
        (("--store", "s3://b/p", "--run", "No Good"), "not a usable run name"),
    ],
)
def test_wrong_settings_are_told_before_anything_is_asked_of_the_server(
    server: KfpServer, arguments: tuple[str, ...], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert submit(server, *arguments) == 2
    assert told in capsys.readouterr().err
    assert server.requests == []


def test_nobody_there(capsys: pytest.CaptureFixture[str]) -> None:
    with KfpServer() as server:
        url = server.url
    assert invoke(["submit", "--host", url, "--store", "s3://b/p"]) == 3
    error = capsys.readouterr().err
    assert "the Kubeflow server does not answer" in error
    assert "Connection refused" in error
    assert "Traceback" not in error
    assert "Retrying" not in error


def test_no_server_given(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["submit", "--store", "s3://b/p"]) == 2
    assert "no Kubeflow server is given" in capsys.readouterr().err
    assert invoke(["submit", "--host", "localhost:8888", "--store", "s3://b/p"]) == 2
    assert "not a URL" in capsys.readouterr().err


def test_who_is_asking(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with KfpServer(token="s3cr3t-token") as server:
        assert submit(server, "--store", "s3://b/p", "--detach") == 2
        assert "does not know who is asking" in capsys.readouterr().err
        (tmp_path / "token").write_text("s3cr3t-token\n")
        assert submit(server, "--store", "s3://b/p", "--detach", "--token-file", str(tmp_path / "token")) == 0
        assert "s3cr3t" not in "".join(capsys.readouterr())
        monkeypatch.setenv("KF_PIPELINES_TOKEN", "s3cr3t-token")
        assert submit(server, "--store", "s3://b/p", "--detach") == 0
        assert submit(server, "--store", "s3://b/p", "--detach", "--token-file", str(tmp_path / "no")) == 2
        assert "the token cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["file", "variable"])
def test_a_token_does_not_keep_the_server_from_being_found(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Through the kubeconfig; what follows the run again finds it there as well."""
    token = tmp_path / "token"
    token.write_text("s3cr3t-token")
    with KfpServer(token="s3cr3t-token") as server:
        cluster = {"name": "c", "cluster": {"server": server.url}}
        context = {"name": "c", "context": {"cluster": "c", "user": "u"}}
        kubeconfig = {"apiVersion": "v1", "kind": "Config", "current-context": "c", "clusters": [cluster]}
        (tmp_path / "kubeconfig").write_text(
            yaml.safe_dump(kubeconfig | {"contexts": [context], "users": [{"name": "u", "user": {}}]})
        )
        monkeypatch.setattr(
            "kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "kubeconfig")
        )
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
        given = ("--token-file", str(token)) if kind == "file" else ()
        if kind == "variable":
            monkeypatch.setenv("KF_PIPELINES_TOKEN", "s3cr3t-token")
        assert invoke(["submit", "--store", "s3://b/p", "--detach", *given]) == 0, capsys.readouterr().err
        run_id = only(server.backend.runs)["run_id"]
        again = shlex.join(["conveyor", "submit", "--attach", run_id, *given])
        assert f"{again}   follows it" in capsys.readouterr().out
        assert invoke([*shlex.split(again)[1:], "--detach"]) == 0


def test_a_login_page_is_no_api(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with KfpServer(cookie="authservice_session=abc") as server:
        assert submit(server, "--store", "s3://b/p", "--detach") == 2
        assert "somebody has to log in first" in capsys.readouterr().err
        monkeypatch.setenv("KF_PIPELINES_COOKIE", "authservice_session=abc")
        assert submit(server, "--store", "s3://b/p", "--detach") == 0


def test_a_server_with_several_users(capsys: pytest.CaptureFixture[str]) -> None:
    backend = Backend(multi_user=True)
    with KfpServer(backend, namespaces=frozenset({"mine"})) as server:
        assert submit(server, "--store", "s3://b/p", "--detach") == 2
        assert "--namespace" in capsys.readouterr().err
        assert submit(server, "--store", "s3://b/p", "--detach", "--namespace", "yours") == 2
        assert "does not allow this" in capsys.readouterr().err
        assert submit(server, "--store", "s3://b/p", "--detach", "--namespace", "mine") == 0
        assert {p["namespace"] for p in backend.pipelines.values()} == {"mine"}
        assert only(backend.experiments)["namespace"] == "mine"
        assert "--namespace mine" in capsys.readouterr().out


def test_the_servers_certificate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    certificate, key = tmp_path / "tls.crt", tmp_path / "tls.key"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-out", str(certificate), "-keyout", str(key)),
        ],
        check=True,
        capture_output=True,
    )
    with KfpServer(certificate=(certificate, key)) as server:
        assert submit(server, "--store", "s3://b/p", "--detach") == 2
        assert "certificate is not trusted" in capsys.readouterr().err
        assert submit(server, "--store", "s3://b/p", "--detach", "--ca-file", str(certificate)) == 0
        assert submit(server, "--store", "s3://b/p", "--ca-file", str(tmp_path / "no")) == 2
        assert "no such certificate file" in capsys.readouterr().err
