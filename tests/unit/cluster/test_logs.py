"""A log read across connections that break: every line, once. The server is a small one that breaks on purpose."""

import json
import os
import socket
import struct
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from components.cluster import api, logs
from components.cluster.api import JOB, POD, Cluster
from components.cluster.logs import LogReader
from components.common.errors import InputError, StepError

NUM_LINES = 40
LINES = [f"2026-11-23T10:00:{i // 4:02d}.{i % 4:09d}Z line {i}" for i in range(NUM_LINES)]


class Server(BaseHTTPRequestHandler):
    """Speaks as much of the API as a log needs; each log connection breaks after a few lines."""

    protocol_version = "HTTP/1.1"
    served = 0
    """Lines that were written so far."""
    asked: list[dict[str, list[str]]]
    refuse: list[tuple[int, dict[str, Any]]]
    """Answers to give before any other."""
    drop: list[str]
    """What happens to connections that ask for the log, before any is answered: reset, or silent."""

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        if Server.refuse:
            status, body = Server.refuse.pop(0)
            self._json(status, body)
        elif parts.path.endswith("/log") and Server.drop:
            self._drop(Server.drop.pop(0))
        elif parts.path.endswith("/log"):
            self._log(parse_qs(parts.query))
        else:
            phase = "Succeeded" if Server.served >= NUM_LINES else "Running"
            self._json(200, {"metadata": {"name": "p"}, "status": {"phase": phase}})

    def _json(self, status: int, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _log(self, query: dict[str, list[str]]) -> None:
        Server.asked.append(query)
        since = query.get("sinceTime", [""])[0]
        lines = [line for line in LINES if line[:19] >= since[:19]]
        if query["follow"] == ["true"]:
            Server.served = min(NUM_LINES, Server.served + 7)
            lines = [line for line in lines if LINES.index(line) < Server.served]
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for line in lines:
            half = len(line) // 2  # a line may come in pieces
            for piece in (line[:half], line[half:] + "\n"):
                self.wfile.write(f"{len(piece):x}\r\n{piece}\r\n".encode())
        if query["follow"] == ["true"]:
            self.wfile.write(b"ff\r\nhalf a li")  # and the connection is gone
            self.close_connection = True
        else:
            self.wfile.write(b"0\r\n\r\n")

    def _drop(self, how: str) -> None:
        """No answer, not even a header."""
        self.close_connection = True
        if how == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            os.close(self.connection.detach())  # the server's own way would be an orderly end
        else:
            time.sleep(0.5)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """The test's own output is enough."""


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    from kubernetes.client import ApiClient, Configuration

    Server.served, Server.asked, Server.refuse, Server.drop = 0, [], [], []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    configuration = Configuration()
    configuration.host = f"http://127.0.0.1:{server.server_port}"
    client = ApiClient(configuration)
    yield Cluster(client, "ns", user="me")
    client.rest_client.pool_manager.clear()
    client.close()
    server.shutdown()
    server.server_close()
    thread.join()


def test_every_line_arrives_once_however_often_the_connection_breaks(cluster: Cluster) -> None:
    taken: list[tuple[str, str]] = []
    lost: list[str] = []
    reader = LogReader(cluster, "p", lambda text, at: taken.append((text, at)), lost.append)
    reader.run()
    assert not lost
    assert [text for text, _ in taken] == [f"line {i}" for i in range(NUM_LINES)]
    assert [at for _, at in taken] == [line.split()[0] for line in LINES]
    assert len(Server.asked) > 3
    assert "sinceTime" not in Server.asked[0]
    # A pod with a mesh's proxy has two containers, and no log without a name.
    assert {tuple(query["container"]) for query in Server.asked} == {("conveyor",)}


def test_a_log_that_is_refused_for_good_is_told_once(cluster: Cluster) -> None:
    refusal = {"reason": "BadRequest", "message": "the node is away"}
    pod = {"metadata": {"name": "p"}, "status": {"phase": "Running"}}
    Server.refuse = [(200, pod), (500, refusal)] * 50
    lost: list[str] = []
    LogReader(cluster, "p", lambda *_: None, lost.append, patience_s=0.6).run()
    assert len(lost) == 1
    assert "the node is away" in lost[0]


@pytest.mark.parametrize("how", ["reset", "silent"])
def test_a_connection_that_ends_before_the_answer_is_made_anew(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr(api, "FOLLOW_S", 0.2)
    monkeypatch.setattr(logs, "PAUSE_S", 0.05)
    Server.drop = [how] * 2
    taken: list[str] = []
    lost: list[str] = []
    LogReader(cluster, "p", lambda text, _: taken.append(text), lost.append).run()
    assert not lost
    assert taken == [f"line {i}" for i in range(NUM_LINES)]


@pytest.mark.parametrize("how", ["reset", "silent"])
def test_a_log_that_nothing_answers_for_is_told_once(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr(api, "FOLLOW_S", 0.2)
    monkeypatch.setattr(logs, "PAUSE_S", 0.05)
    Server.drop = [how] * 50
    lost: list[str] = []
    LogReader(cluster, "p", lambda *_: None, lost.append, patience_s=0.6).run()
    assert len(lost) == 1


def test_a_server_that_is_away_for_a_moment_is_asked_again(cluster: Cluster) -> None:
    Server.refuse = [(503, {}), (429, {})]
    found = cluster.get(POD, "p")
    assert found is not None


@pytest.mark.parametrize(
    ("status", "answer", "kind", "words"),
    [
        (
            403,
            {
                "reason": "Forbidden",
                "message": 'jobs.batch "x" is forbidden: User "system:serviceaccount:ns:a" cannot get resource',
            },
            InputError,
            "system:serviceaccount:ns:a may not get jobs in the namespace ns",
        ),
        (401, {"message": "Unauthorized"}, InputError, "does not know these credentials"),
        (404, {"message": 'namespaces "ns" not found', "details": {"kind": "namespaces"}}, InputError,
         "there is no namespace ns"),
        (403, {"message": "exceeded quota: q"}, StepError, "quota is used up"),
        (400, {"message": 'admission webhook "w" denied the request'}, InputError, "a policy of the cluster"),
        (422, {"reason": "Invalid", "message": "spec: bad"}, InputError, "refuses the jobs x as it is written"),
    ],
)  # fmt: skip
def test_refusals_in_words(
    cluster: Cluster, status: int, answer: dict[str, Any], kind: type[Exception], words: str
) -> None:
    Server.refuse = [(status, answer)]
    with pytest.raises(kind, match=words):
        cluster.get(JOB, "x")


def test_what_is_not_there_is_none(cluster: Cluster) -> None:
    Server.refuse = [(404, {"message": 'jobs.batch "x" not found', "details": {"name": "x", "kind": "jobs"}})]
    assert cluster.get(JOB, "x") is None
