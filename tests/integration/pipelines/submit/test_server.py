"""Which server is asked, and who is asking: addresses, tokens, login pages, several users, certificates."""

import shlex
import subprocess
from pathlib import Path

import pytest
import yaml

from pipelines.cli import invoke
from support.kfp_backend import Backend
from support.kfp_server import KfpServer
from support.submitting import only, submit

pytestmark = pytest.mark.integration


def test_no_server_given(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["submit", "--store", "s3://b/p"]) == 2
    assert "no Kubeflow server is given" in capsys.readouterr().err
    assert invoke(["submit", "--host", "localhost:8888", "--store", "s3://b/p"]) == 2
    assert "not a URL" in capsys.readouterr().err


def test_nobody_there(capsys: pytest.CaptureFixture[str]) -> None:
    with KfpServer() as server:
        url = server.url
    assert invoke(["submit", "--host", url, "--store", "s3://b/p"]) == 3
    error = capsys.readouterr().err
    assert "the Kubeflow server does not answer" in error
    assert "Connection refused" in error
    assert "Traceback" not in error
    assert "Retrying" not in error


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
