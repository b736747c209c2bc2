"""A small HTTP server: /metrics and /healthz."""

import errno
import socket
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from prometheus_client.exposition import choose_encoder

from components.common.errors import InputError
from pipelines.exporter.watch import Watch

CLIENT_TIMEOUT_S = 10.0


def make_server(watch: Watch, address: str, port: int) -> ThreadingHTTPServer:
    """Bound and listening; port 0 takes a free one. Raises `InputError` where the address cannot be had."""

    class Handler(BaseHTTPRequestHandler):
        timeout = CLIENT_TIMEOUT_S
        server_version = "conveyor"
        sys_version = ""

        def do_GET(self) -> None:
            self._answer(body=True)

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def _answer(self, *, body: bool) -> None:
            status, kind, data = _content(watch, urlsplit(self.path).path, self.headers.get("Accept", ""))
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if body:
                self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            """A line for each scrape helps nobody."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False
        address_family = socket.AF_INET6 if ":" in address else socket.AF_INET

        def handle_error(self, request: object, client_address: object) -> None:
            """A client that went away is no news."""

    try:
        return Server((address, port), Handler)
    except (OSError, OverflowError) as error:
        in_use = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
        raise InputError(
            "the address for metrics cannot be used",
            where=f"--address {address} --port {port}",
            found=str(error),
            todo="choose another --port" if in_use else "choose another --address, such as 0.0.0.0",
        ) from None


def _content(watch: Watch, path: str, accept: str) -> tuple[int, str, bytes]:
    """Status, type and body of an answer."""
    if path == "/metrics":
        encode, kind = choose_encoder(accept)
        return 200, kind, encode(watch)
    plain = "text/plain; charset=utf-8"
    if path == "/healthz":
        healthy, words = watch.healthy()
        return 200 if healthy else 503, plain, f"{words}\n".encode()
    if path == "/":
        return 200, plain, b"/metrics\n/healthz\n"
    return 404, plain, b"not found\n"
