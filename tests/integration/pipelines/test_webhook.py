"""The webhook against real receivers: one that takes it, fails, is slow, redirects, talks nonsense, or is not there."""

import hashlib
import hmac
import json
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from components.common.errors import InputError, StepError
from components.common.notify import NotifyConfig
from components.common.progress import LineReporter
from components.common.refs import PromotionRef
from components.common.step import Outcome
from components.common.store import Store, open_store
from pipelines.notify import notify_end
from pipelines.result import Run
from support.images import make_image_folder
from support.small_pipeline import SMALL, conveyor, write_config

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

DIGEST = "sha256:" + "0" * 64


@dataclass
class Receiver:
    """A local HTTP server; `answer` gets the handler and the number of the request (0, 1, ...)."""

    url: str
    requests: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    answer: Callable[[BaseHTTPRequestHandler, int], None] = lambda handler, _: reply(handler, 200)

    def documents(self) -> list[Any]:
        return [json.loads(body) for _, _, body in self.requests]


def reply(handler: BaseHTTPRequestHandler, status: int, **headers: str) -> None:
    handler.send_response(status)
    for name, text in headers.items():
        handler.send_header(name, text)
    handler.send_header("Content-Length", "0")
    handler.end_headers()


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    found = Receiver("")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            found.requests.append((self.path, dict(self.headers), body))
            found.answer(self, len(found.requests) - 1)

        def do_GET(self) -> None:
            found.requests.append((f"GET {self.path}", dict(self.headers), b""))
            reply(self, 200)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.block_on_close = False
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    found.url = f"http://127.0.0.1:{server.server_address[1]}"
    monkeypatch.setenv("CONVEYOR_WEBHOOK_URL", f"{found.url}/hooks/T0KEN-of-the-path?key=1")
    monkeypatch.delenv("CONVEYOR_WEBHOOK_SECRET", raising=False)
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    yield found
    server.shutdown()
    server.server_close()


class Told(LineReporter):
    """Remembers its lines."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def _print(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "store"))


def a_run(run_id: str = "r-1", *, promoted: bool = True, awaiting: bool = False, reason: str = "good") -> Run:
    ref = PromotionRef(
        tree=DIGEST,
        registry="digits",
        promoted=promoted,
        awaiting_approval=awaiting,
        model_version=3,
        model=DIGEST,
        champion_before=2,
        gates={"min_accuracy": promoted or awaiting},
        reason=reason,
    )
    outcome = Outcome("promote", "a" * 64, "done", 1.0, ref, {})
    return Run(run_id=run_id, store_url="s3://bucket/prefix", outcomes={"promote": outcome})


def tell(run: Run, store: Store, **settings: Any) -> tuple[bool, str]:
    told = Told()
    config = NotifyConfig(**({"timeout_s": 5.0, "deadline_s": 20.0} | settings))
    return notify_end(config, run, store, told), "\n".join(told.lines)


@pytest.mark.parametrize(
    ("run", "event"),
    [
        (a_run(), "promoted"),
        (a_run(promoted=False), "refused"),
        (a_run(promoted=False, awaiting=True), "awaiting_approval"),
        (Run("r-1", "s", failed_step="train", error=StepError("it broke", todo="mend it")), "failed"),
    ],
    ids=["promoted", "refused", "awaiting", "failed"],
)
def test_each_event_with_its_document(receiver: Receiver, store: Store, run: Run, event: str) -> None:
    assert tell(run, store)[0]
    ((path, headers, _),) = receiver.requests
    (document,) = receiver.documents()
    assert path == "/hooks/T0KEN-of-the-path?key=1"
    assert headers["Content-Type"] == "application/json"
    assert headers["X-Conveyor-Event"] == event
    assert "X-Conveyor-Signature" not in headers
    assert (document["version"], document["event"], document["run"]) == (1, event, "r-1")
    assert "T0KEN" not in json.dumps(document)
    if event == "failed":
        assert document["text"] == "Conveyor run r-1 failed in train: it broke. To do: mend it"
        assert document["error"]["exit_code"] == 3
    else:
        assert document["model"] == {"version": 3, "digest": DIGEST}
        assert "digits version 3" in document["text"]


def test_a_decision_is_told_once_and_a_failure_each_time(receiver: Receiver, store: Store) -> None:
    assert tell(a_run(), store)[0]
    assert not tell(a_run(), store)[0]
    assert not tell(a_run("another-run-that-reused-it"), store)[0]
    failed = Run("r-1", "s", error=StepError("it broke"))
    assert tell(failed, store)[0]
    assert tell(failed, store)[0]
    assert len(receiver.requests) == 3


def test_only_the_events_that_were_asked_for(receiver: Receiver, store: Store) -> None:
    assert not tell(a_run(), store, events=("failed",))[0]
    interrupted = Run("r-1", "s", error=StepError("interrupted"))
    interrupted.error = type("Stopped", (StepError,), {"exit_code": 130})("interrupted")
    assert not tell(interrupted, store)[0]
    assert receiver.requests == []


def test_nobody_is_told_without_a_url(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CONVEYOR_WEBHOOK_URL", raising=False)
    assert tell(a_run(), store) == (False, "")


def test_slack_gets_a_sentence(receiver: Receiver, store: Store) -> None:
    assert tell(a_run(), store, format="slack")[0]
    assert list(receiver.documents()[0]) == ["text"]


def test_a_signature_over_the_very_bytes(
    receiver: Receiver, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONVEYOR_WEBHOOK_SECRET", "s3cret-of-both")
    assert tell(a_run(reason="s3cret-of-both"), store)[0]
    ((_, headers, body),) = receiver.requests
    expected = hmac.new(b"s3cret-of-both", body, hashlib.sha256).hexdigest()
    assert headers["X-Conveyor-Signature"] == f"sha256={expected}"
    assert b"s3cret-of-both" not in body


def test_credentials_are_blotted_out(
    receiver: Receiver, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "very/secret+key")
    error = StepError(
        "no answer", where="https://user:pa55@proxy:3128/x", found="signed with very/secret+key"
    )
    assert tell(Run("r-1", "s", error=error), store)[0]
    (document,) = receiver.documents()
    assert document["error"]["where"] == "https://***@proxy:3128/x"
    assert document["error"]["found"] == "signed with ***"


def test_it_is_tried_again_under_the_same_name(receiver: Receiver, store: Store) -> None:
    receiver.answer = lambda handler, number: reply(handler, 503 if number < 2 else 204)
    assert tell(a_run(), store)[0]
    assert len(receiver.requests) == 3
    assert len({headers["X-Conveyor-Delivery"] for _, headers, _ in receiver.requests}) == 1


def test_what_the_receiver_refuses_is_a_warning(receiver: Receiver, store: Store) -> None:
    receiver.answer = lambda handler, _: reply(handler, 400)
    done, words = tell(a_run(), store)
    assert not done
    assert "warning: the webhook was not told" in words
    assert "status 400 (1 try)" in words
    assert "T0KEN" not in words
    # It was not told, so the next run that comes to this decision tells it.
    receiver.answer = lambda handler, _: reply(handler, 200)
    assert tell(a_run(), store)[0]


def test_no_redirect_is_followed(receiver: Receiver, store: Store) -> None:
    receiver.answer = lambda handler, _: reply(handler, 302, Location=f"{receiver.url}/elsewhere")
    done, words = tell(a_run(), store)
    assert not done
    assert "a redirect" in words
    assert [path for path, _, _ in receiver.requests] == ["/hooks/T0KEN-of-the-path?key=1"]


def test_user_and_password_of_the_url_become_a_header(
    receiver: Receiver, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONVEYOR_WEBHOOK_URL", receiver.url.replace("://", "://robot:pa%40ss@"))
    assert tell(a_run(), store)[0]
    ((path, headers, _),) = receiver.requests
    assert path == "/"
    assert headers["Authorization"] == "Basic cm9ib3Q6cGFAc3M="


def test_through_a_proxy(receiver: Receiver, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", receiver.url)
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setenv("CONVEYOR_WEBHOOK_URL", "http://receiver.invalid/hook")
    assert tell(a_run(), store)[0]
    assert receiver.requests[0][0] == "http://receiver.invalid/hook"


def test_a_receiver_that_dribbles_is_given_up(receiver: Receiver, store: Store) -> None:
    end = threading.Event()

    def dribble(handler: BaseHTTPRequestHandler, _: int) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
        while not end.wait(0.05):
            handler.wfile.write(b"X-More: of this\r\n")
            handler.wfile.flush()

    receiver.answer = dribble
    try:
        done, words = tell(a_run(), store, timeout_s=0.3, deadline_s=0.5)
    finally:
        end.set()
    assert not done
    assert "the webhook was not told" in words


def test_nobody_listens(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("CONVEYOR_WEBHOOK_URL", f"http://127.0.0.1:{port}/T0KEN")
    done, words = tell(a_run(), store, deadline_s=1.0)
    assert not done
    assert "ConnectionRefusedError" in words
    assert "T0KEN" not in words


def test_nonsense_for_an_answer(receiver: Receiver, store: Store) -> None:
    def nonsense(handler: BaseHTTPRequestHandler, _: int) -> None:
        handler.wfile.write(b"hello\r\n\r\n")
        handler.close_connection = True

    receiver.answer = nonsense
    assert not tell(a_run(), store, deadline_s=0.6)[0]


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "ftp://host/x", "https://", "http://host:port/", "nonsense", "http://a b/"]
)
def test_only_http(url: str, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVEYOR_WEBHOOK_URL", url)
    done, words = tell(a_run(), store)
    assert not done
    assert "the webhook's URL cannot be used" in words
    assert url not in words


def test_a_schedules_pod_tells_that_nothing_even_starts(receiver: Receiver, tmp_path: Path) -> None:
    write_config(tmp_path / "wrong.yaml", {"train": {"epoch": 3}})
    for launcher in ("0", "1"):
        ended = conveyor("retrain", "-f", "wrong.yaml", cwd=tmp_path, env={"CONVEYOR_LAUNCHER": launcher})
        assert ended.status == InputError.exit_code
    (document,) = receiver.documents()
    assert (document["event"], document["run"]) == ("failed", None)
    assert document["text"].startswith("Conveyor failed: unknown setting train.epoch")


def test_a_long_reason_is_cut(receiver: Receiver, store: Store) -> None:
    assert tell(a_run(reason="x" * 1_000_000), store)[0]
    assert len(receiver.requests[0][2]) < 64 << 10


def test_whole_runs_tell_how_they_ended(receiver: Receiver, tmp_path: Path) -> None:
    make_image_folder(tmp_path / "images", classes=2, per_class=20, size=(16, 16), fmt="png")
    write_config(tmp_path / "small.yaml")
    arguments = ("-f", "small.yaml", "--store", "store", "--json")
    ran = conveyor("run", *arguments, "--source", "images", cwd=tmp_path)
    assert ran.status == 0, ran.err
    result = ran.json()
    (document,) = receiver.documents()
    assert (document["event"], document["run"]) == ("promoted", result["run"])
    for name in ("metrics", "model", "ingest", "report", "promoted"):
        assert document[name] == result[name]
    assert document["compressed"] == result["compressed"]["chosen"]
    # Nothing new, nothing told; a failure is, and a receiver that is broken changes nothing of the outcome.
    assert conveyor("run", *arguments, "--source", "images", cwd=tmp_path).status == 0
    assert len(receiver.requests) == 1
    receiver.answer = lambda handler, _: reply(handler, 500)
    write_config(tmp_path / "small.yaml", {**SMALL, "notify": {"deadline_s": 0.5}})
    failed = conveyor("run", *arguments, "--source", "nowhere", cwd=tmp_path)
    assert failed.status == InputError.exit_code
    assert "the webhook was not told" in failed.err
    assert receiver.documents()[1]["event"] == "failed"
