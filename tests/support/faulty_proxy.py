"""A real HTTP proxy in front of a real server that breaks chosen answers the way networks and servers do."""

import socket
import socketserver
import ssl
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPMessage, parse_headers
from io import BufferedIOBase
from typing import Literal, Self
from urllib.parse import urlsplit

Kind = Literal[
    "refuse",  # close the connection before the server hears of the request
    "drop",  # let the server carry it out, then reset the connection instead of answering
    "truncate",  # the head and half of the body, then close in good order
    "reset",  # the head and half of the body, then reset
    "stall",  # carry it out and say nothing until the client goes away
    "damage",  # flip a bit of the request's body on its way
    "answer",  # do not ask the server; answer with `status` and the S3 error `code`
]


@dataclass
class Fault:
    """Breaks the next `times` requests that fit."""

    kind: Kind
    method: str
    where: str = ""
    """Part of the path and query."""
    times: int = 1
    status: int = 503
    code: str = "SlowDown"
    before: Callable[[], None] | None = None
    """Called once before the first time, such as to let somebody else act just then."""
    only_with: str = ""
    """Header that the request must have."""


@dataclass
class Request:
    method: str
    path: str
    headers: HTTPMessage
    body: bytes


@dataclass
class FaultyProxy:
    """Listens on a free port of this machine; `faults` may be changed while it runs."""

    server: str
    tls: ssl.SSLContext | None = None
    rewrite: Callable[[Request], None] | None = None
    """Changes each request on its way, such as to imitate a server that ignores a header."""
    faults: list[Fault] = field(default_factory=list)
    seen: list[tuple[str, str, str]] = field(default_factory=list)
    """Method, path and the kind of fault ("" for none) of each request so far."""

    def __enter__(self) -> Self:
        outer = self
        self._mutex = threading.Lock()
        self._closing = threading.Event()

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                try:
                    while outer._serve(self.connection, self.rfile):
                        pass
                except (OSError, ValueError):
                    pass  # the client went away, which some faults make it do

        class Listener(socketserver.ThreadingTCPServer):
            daemon_threads = True
            block_on_close = False

            def get_request(self) -> tuple[socket.socket, object]:
                connection, address = super().get_request()
                if outer.tls is not None:
                    connection = outer.tls.wrap_socket(connection, server_side=True)
                return connection, address

        self._listener = Listener(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._listener.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._listener.shutdown()
        self._listener.server_close()

    @property
    def url(self) -> str:
        port = self._listener.server_address[1]
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{port}"

    def count(self, method: str, where: str = "") -> int:
        return sum(1 for seen_method, path, _ in self.seen if seen_method == method and where in path)

    def _serve(self, client: socket.socket, stream: BufferedIOBase) -> bool:
        """Pass one request on; False where the connection is over."""
        line = stream.readline().decode("latin-1").split()
        if len(line) < 2:
            return False
        request = Request(line[0], line[1], parse_headers(stream), b"")
        if request.headers.get("Expect", "").lower() == "100-continue":
            client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            del request.headers["Expect"]
        request.body = stream.read(int(request.headers.get("Content-Length", "0")))
        if request.path.startswith("http"):  # asked as a forward proxy
            parts = urlsplit(request.path)
            request.path = parts.path + (f"?{parts.query}" if parts.query else "")
        fault = self._fault(request)
        with self._mutex:
            self.seen.append((request.method, request.path, fault.kind if fault else ""))
        if self.rewrite is not None:
            self.rewrite(request)
        return self._answer(client, request, fault)

    def _fault(self, request: Request) -> Fault | None:
        with self._mutex:
            fault = next((f for f in self.faults if f.times > 0 and _fits(f, request)), None)
            if fault is None:
                return None
            fault.times -= 1
            before, fault.before = fault.before, None
        if before is not None:
            before()
        return fault

    def _answer(self, client: socket.socket, request: Request, fault: Fault | None) -> bool:
        kind = fault.kind if fault else ""
        if fault is not None and kind == "answer":
            client.sendall(_error(request, fault.status, fault.code))
            return True
        if kind == "refuse":
            _reset(client)
            return False
        if kind == "damage":
            request.body = bytes([request.body[0] ^ 1]) + request.body[1:]
        head, body = self._ask(request)
        if kind == "drop":
            _reset(client)
            return False
        if kind == "stall":
            self._closing.wait()
            return False
        if kind in ("truncate", "reset"):
            client.sendall(head + body[: len(body) // 2])
            if kind == "reset":
                _reset(client)
            return False
        client.sendall(head + body)
        return True

    def _ask(self, request: Request) -> tuple[bytes, bytes]:
        """The real server's answer: head and body."""
        target = urlsplit(self.server)
        assert target.hostname is not None
        connection = HTTPConnection(target.hostname, target.port, timeout=60)
        try:
            connection.putrequest(request.method, request.path, skip_host=True, skip_accept_encoding=True)
            for name, value in request.headers.items():
                connection.putheader(name, value)
            connection.endheaders(request.body or None)
            answer = connection.getresponse()
            body = answer.read()
        finally:
            connection.close()
        lines = [f"HTTP/1.1 {answer.status} {answer.reason}"]
        dropped = {"transfer-encoding", "connection", "content-length", "keep-alive"}
        lines += [f"{name}: {value}" for name, value in answer.getheaders() if name.lower() not in dropped]
        length = answer.getheader("Content-Length", "0") if request.method == "HEAD" else str(len(body))
        if answer.status != 204:
            lines.append(f"Content-Length: {length}")
        return "\r\n".join([*lines, "", ""]).encode("latin-1"), body


def _fits(fault: Fault, request: Request) -> bool:
    return (
        fault.method == request.method
        and fault.where in request.path
        and (not fault.only_with or fault.only_with in request.headers)
    )


def _error(request: Request, status: int, code: str) -> bytes:
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>told to</Message></Error>".encode()
    head = (
        f"HTTP/1.1 {status} Told To\r\nContent-Type: application/xml\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + (b"" if request.method == "HEAD" else body)


def _reset(client: socket.socket) -> None:
    """Close with RST instead of FIN."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.shutdown(socket.SHUT_RD)
    client.close()
