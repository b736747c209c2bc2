"""`conveyor doctor`: every probe ends, and says what to do where something is missing."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from click.testing import CliRunner

from pipelines.doctor import libraries, probes, services
from pipelines.doctor.check import Check, Probe, ask_all
from pipelines.doctor.command import command


def fine(name: str) -> Check:
    return Check(name, "ok", "found")


def test_a_probe_that_hangs_or_raises_fails_alone_and_the_order_stays() -> None:
    never = threading.Event()

    def hang() -> Check:
        never.wait()
        return fine("hangs")

    def burst() -> Check:
        raise OSError("no such device")

    asked = [
        Probe("hangs", hang, 0.05),
        Probe("raises", burst, 10.0),
        Probe("works", lambda: fine("works"), 10.0),
    ]
    checks = list(ask_all(asked))
    never.set()
    assert [check.name for check in checks] == ["hangs", "raises", "works"]
    assert [check.status for check in checks] == ["failed", "failed", "ok"]
    assert "no answer within 0.05 s" in checks[0].found
    assert "no such device" in checks[1].found


def test_every_probe_has_a_limit_and_a_name_of_its_own() -> None:
    asked = probes.probes("unused")
    assert all(0 < probe.limit_s < 180 for probe in asked)
    assert len({probe.name for probe in asked}) == len(asked)


def test_store_says_what_holds(tmp_path: Path) -> None:
    check = services.store(str(tmp_path / "store"))
    assert check.status == "ok"
    assert "conditional puts hold" in check.found


def test_store_that_cannot_be_written_fails_with_a_cure(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    check = services.store(str(tmp_path / "file"))
    assert check.status == "failed"
    assert check.cure


def test_a_wrong_url_fails_with_what_was_expected() -> None:
    check = services.store("gopher://bucket")
    assert check.status == "failed"
    assert "gopher" in check.found


def test_docker_that_is_not_installed_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    check = services.docker()
    assert check.status == "missing"
    assert "install Docker" in check.cure


def test_docker_without_its_engine_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    client = tmp_path / "docker"
    client.write_text("#!/bin/sh\necho 'Cannot connect to the Docker daemon' >&2\nexit 1\n")
    client.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert services.docker() == Check(
        "Docker", "missing", "Cannot connect to the Docker daemon", services.docker().cure
    )


def test_no_cluster_settings_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert services.cluster().status == "missing"


class Healthy(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        found = self.path == "/apis/v2beta1/healthz"
        self.send_response(200 if found else 404)
        self.end_headers()
        self.wfile.write(b'{"multi_user": false}')

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
        pass


@pytest.fixture
def server() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Healthy) as http:
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()
        thread.join()


def test_kubeflow_that_answers_is_ok(monkeypatch: pytest.MonkeyPatch, server: str) -> None:
    monkeypatch.setenv(services.KFP_ENDPOINT, server + "/")
    assert services.kubeflow().status == "ok"


@pytest.mark.parametrize(
    ("endpoint", "status"),
    [("", "missing"), ("ftp://somewhere", "failed"), ("http://127.0.0.1:9/", "failed")],
)
def test_kubeflow_that_does_not_answer(monkeypatch: pytest.MonkeyPatch, endpoint: str, status: str) -> None:
    monkeypatch.setenv(services.KFP_ENDPOINT, endpoint)
    check = services.kubeflow()
    assert check.status == status
    assert check.cure or "URL" in check.found


def test_a_library_is_asked_in_a_process_of_its_own() -> None:
    assert libraries.ask("answer = {'one': 1}") == {"one": 1}
    with pytest.raises(libraries.NotThereError, match="no_such_library"):
        libraries.ask("import no_such_library")
    with pytest.raises(libraries.BrokenError, match="undefined symbol"):
        libraries.ask("raise ImportError('undefined symbol: x')")
    with pytest.raises(libraries.BrokenError, match="status -11"):
        libraries.ask("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")


@pytest.mark.integration
def test_the_command_prints_json_and_names_every_probe(tmp_path: Path) -> None:
    result = CliRunner().invoke(command, ["--store", str(tmp_path / "store"), "--json"])
    checks = {check["name"]: check for check in json.loads(result.stdout)}
    assert list(checks) == [probe.name for probe in probes.probes("")]
    assert checks["torch"]["status"] == checks["DALI"]["status"] == checks["store"]["status"] == "ok"
    failed = any(check["status"] == "failed" for check in checks.values())
    assert result.exit_code == (3 if failed else 0)
