"""A Kubeflow Pipelines API server for tests: REST v2beta1 over HTTP, with tokens, TLS and faults on demand."""

import json
import re
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from email.parser import BytesParser
from email.policy import HTTP
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl, unquote, urlsplit

from support.kfp_backend import Backend
from support.kfp_checks import (
    DENIED,
    EXISTS,
    INTERNAL,
    INVALID,
    NOT_FOUND,
    UNAUTHENTICATED,
    Object,
    RefusedError,
    found,
    page_of,
    visible,
)

STATUS = {INVALID: 400, NOT_FOUND: 404, EXISTS: 409, DENIED: 403, INTERNAL: 500, UNAUTHENTICATED: 401}
ROOT = "/apis/v2beta1"
PROXY = "/api/v1/namespaces/kubeflow/services/ml-pipeline:http/proxy/"
"""Below it the server is reached through a cluster's API server, which this one is as well as it needs to be."""


@dataclass
class KfpServer:
    """The running server; `backend` is its state. Use it in a `with` block."""

    backend: Backend = field(default_factory=Backend)
    token: str | None = None
    """What a client must send as a bearer token; None asks for none."""
    cookie: str | None = None
    """What a client must send as a cookie; without it a login page is the answer, as behind Dex."""
    namespaces: frozenset[str] | None = None
    """Where the user may work, in multi-user mode."""
    certificate: tuple[Path, Path] | None = None
    """Certificate and key, for https."""
    stumbles: Callable[[str], int] = lambda _: 0
    """Asked with METHOD path of every request: a status is the answer, as a proxy gives it before a restarting server."""
    requests: list[str] = field(default_factory=list)
    """METHOD path of all requests, in order."""

    def __enter__(self) -> Self:
        handler = type("Handler", (_Handler,), {"kfp": self})
        self._httpd = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        if self.certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*self.certificate)
            self._httpd.socket = context.wrap_socket(self._httpd.socket, server_side=True)
        threading.Thread(target=self._httpd.serve_forever, name="kfp", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._httpd.shutdown()
        self._httpd.server_close()

    @property
    def url(self) -> str:
        scheme = "http" if self.certificate is None else "https"
        return f"{scheme}://127.0.0.1:{self._httpd.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    kfp: KfpServer
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        pass

    def do_GET(self) -> None:
        self._answer("GET")

    def do_POST(self) -> None:
        self._answer("POST")

    def do_DELETE(self) -> None:
        self._answer("DELETE")

    def _answer(self, method: str) -> None:
        parts = urlsplit(self.path)
        path, query = unquote(parts.path).removeprefix(PROXY), dict(parse_qsl(parts.query))
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        request = f"{method} {path.removeprefix(ROOT)}"
        self.kfp.requests.append(request)
        if status := self.kfp.stumbles(request):
            self._send(status, b"upstream connect error", "text/plain")
            return
        if self.kfp.cookie is not None and self.headers.get("Cookie") != self.kfp.cookie:
            self._send(200, b"<!doctype html><title>Log in</title>", "text/html; charset=utf-8")
            return
        upload = path.startswith(f"{ROOT}/pipelines/upload")
        try:
            self._admit(query, path)
            answer = self._upload(path, query, body) if upload else self._route(method, path, query, body)
            self._send(200, json.dumps(answer).encode())
        except RefusedError as error:
            if upload:
                text = {"error_message": error.message, "error_details": error.message}
            else:
                text = {"error": error.message, "code": error.code, "message": error.message, "details": []}  # type: ignore[dict-item]
            self._send(STATUS[error.code], json.dumps(text).encode())

    def _admit(self, query: dict[str, str], path: str) -> None:
        if self.kfp.token is not None and self.headers.get("Authorization") != f"Bearer {self.kfp.token}":
            raise RefusedError(UNAUTHENTICATED, "Failed to check authorization. User identity is empty")
        if self.kfp.namespaces is None or path == f"{ROOT}/healthz":
            return
        namespace = query.get("namespace", "")
        if namespace and namespace not in self.kfp.namespaces:
            raise RefusedError(DENIED, f"User 'test@example.org' is not authorized in {namespace}")

    def _upload(self, path: str, query: dict[str, str], body: bytes) -> Object:
        name, data = self._file(body)
        name = query.get("name") or query.get("display_name") or name
        description = query.get("description", "")
        backend = self.kfp.backend
        if path == f"{ROOT}/pipelines/upload":
            return backend.upload_pipeline(data, name, description, query.get("namespace", ""))
        return backend.upload_version(data, name, description, query.get("pipelineid", ""))

    def _file(self, body: bytes) -> tuple[str, bytes]:
        head = f"Content-Type: {self.headers.get('Content-Type', '')}\r\n\r\n".encode()
        message = BytesParser(policy=HTTP).parsebytes(head + body)
        for part in message.iter_parts() if message.is_multipart() else ():
            if part.get_param("name", header="content-disposition") == "uploadfile":
                data = part.get_payload(decode=True)
                assert isinstance(data, bytes)
                return str(part.get_filename()), data
        raise RefusedError(INVALID, "Failed to read pipeline from file")

    def _route(self, method: str, path: str, query: dict[str, str], body: bytes) -> Object:
        for wanted, pattern, handler in ROUTES:
            match = re.fullmatch(ROOT + pattern, path)
            if match and wanted == method:
                try:
                    value = json.loads(body) if body and method == "POST" else {}
                except ValueError:
                    raise RefusedError(INVALID, "the body is not JSON") from None
                return handler(self.kfp.backend, match.groupdict(), query, value)
        raise RefusedError(NOT_FOUND, "Not Found")

    def _send(self, status: int, data: bytes, kind: str = "application/json") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


Handler = Callable[[Backend, dict[str, Any], dict[str, str], Object], Object]


def _listed(backend: Backend, kind: str, query: dict[str, str], objects: dict[str, Object]) -> Object:
    """Objects of the namespace, or of the experiment, that are asked for."""
    kept = [visible(each) for each in objects.values()]
    if backend.multi_user and kind in {"experiments", "pipelines"}:
        kept = [each for each in kept if each.get("namespace", "") == query.get("namespace", "")]
    if query.get("experiment_id"):
        found(backend.experiments, query["experiment_id"], "experiment")
        kept = [each for each in kept if each["experiment_id"] == query["experiment_id"]]
    return page_of(kept, kind, query)


def _versions(backend: Backend, names: dict[str, Any], query: dict[str, str], _: Object) -> Object:
    found(backend.pipelines, names["id"], "pipeline")
    kept = [v for v in backend.versions.values() if v["pipeline_id"] == names["id"]]
    return page_of(kept, "pipeline_versions", query)


ROUTES: tuple[tuple[str, str, Handler], ...] = (
    ("GET", "/healthz", lambda b, n, q, v: {"multi_user": True} if b.multi_user else {}),
    ("GET", "/pipelines", lambda b, n, q, v: _listed(b, "pipelines", q, b.pipelines)),
    ("GET", "/pipelines/(?P<id>[^/]+)/versions", _versions),
    ("GET", "/experiments", lambda b, n, q, v: _listed(b, "experiments", q, b.experiments)),
    ("POST", "/experiments", lambda b, n, q, v: b.create_experiment(v)),
    ("GET", "/experiments/(?P<id>[^/:]+)", lambda b, n, q, v: found(b.experiments, n["id"], "experiment")),
    ("GET", "/runs", lambda b, n, q, v: _listed(b, "runs", q, b.runs)),
    ("POST", "/runs", lambda b, n, q, v: b.create_run(v)),
    ("GET", "/runs/(?P<id>[^/:]+)", lambda b, n, q, v: b.get_run(n["id"])),
    ("POST", "/runs/(?P<id>[^/:]+):terminate", lambda b, n, q, v: b.terminate(n["id"])),
    ("GET", "/recurringruns", lambda b, n, q, v: _listed(b, "recurringRuns", q, b.recurring)),
    ("POST", "/recurringruns", lambda b, n, q, v: b.create_recurring(v)),
    (
        "GET",
        "/recurringruns/(?P<id>[^/:]+)",
        lambda b, n, q, v: found(b.recurring, n["id"], "recurring run"),
    ),
    ("POST", "/recurringruns/(?P<id>[^/:]+):enable", lambda b, n, q, v: b.switch(n["id"], enabled=True)),
    ("POST", "/recurringruns/(?P<id>[^/:]+):disable", lambda b, n, q, v: b.switch(n["id"], enabled=False)),
    (
        "DELETE",
        "/recurringruns/(?P<id>[^/:]+)",
        lambda b, n, q, v: b.delete_recurring(n["id"], q.get("propagation_policy", "")),
    ),
)
