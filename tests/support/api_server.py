"""An API server over HTTP, as far as a launcher's objects need one: versions, preconditions, owners, rights, unknown kinds.

What it answers is what a Kubernetes 1.35 was seen to answer. Nothing happens in it by itself: a test says what others do.
"""

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from components.cluster.api import JOB, MPI_JOB, Cluster, Kind
from components.cluster.rbac import LAUNCHER, RULES, Rule

Object = dict[str, Any]

NAMESPACE = "ns"
VERBS = {"POST": "create", "PATCH": "patch", "DELETE": "delete"}


class ApiServer:
    """Its objects, and what happens `before` each request is answered: (verb, resource, name) is told to it."""

    def __init__(
        self, *, rules: Sequence[Rule] = RULES[LAUNCHER], kinds: Sequence[Kind] = (JOB, MPI_JOB)
    ) -> None:
        self.rules = rules
        self.kinds = {kind.plural for kind in kinds} | {"pods", "services", "configmaps", "events"}
        self.objects: dict[tuple[str, str], Object] = {}
        self.asked: list[tuple[str, str, str]] = []
        self.before: Callable[[str, str, str], object] = lambda *_: None
        self._lock = threading.RLock()
        self._version = 0
        self._uid = 0

    # What a test says.

    def add(self, kind: Kind, body: Object) -> Object:
        """Put an object there."""
        self._uid += 1
        metadata = {**body["metadata"], "namespace": NAMESPACE, "uid": f"uid-{self._uid}"}
        found = {"kind": kind.name, "status": {}, **body, "metadata": metadata}
        self.objects[kind.plural, metadata["name"]] = found
        return self.touch(found)

    def touch(self, found: Object) -> Object:
        """It has changed."""
        self._version += 1
        found["metadata"]["resourceVersion"] = str(self._version)
        return found

    def own(self, found: Object, owner: Object) -> None:
        """Somebody joins it."""
        found["metadata"]["ownerReferences"] = [*found["metadata"].get("ownerReferences", []), owner]
        self.touch(found)

    def get(self, kind: Kind, name: str) -> Object | None:
        return self.objects.get((kind.plural, name))

    # What it answers.

    def answer(self, method: str, path: str, query: dict[str, list[str]], body: Object) -> tuple[int, Any]:
        parts = path.strip("/").split("/")
        group = parts[1] if parts[0] == "apis" else ""
        plural, name = parts[parts.index(NAMESPACE) + 1], "/".join(parts[parts.index(NAMESPACE) + 2 :])
        verb = VERBS.get(method) or ("get" if name else "list")
        self.before(verb, plural, name)
        with self._lock:
            return self._answer(verb, group, plural, name, query, body)

    def _answer(
        self, verb: str, group: str, plural: str, name: str, query: dict[str, list[str]], body: Object
    ) -> tuple[int, Any]:
        self.asked.append((verb, plural, name))
        if not any((group, plural) == rule[:2] and verb in rule[2] for rule in self.rules):
            who = 'User "system:serviceaccount:ns:conveyor-launcher" cannot'
            return _refused(403, "Forbidden", plural, name, f"{plural} is forbidden: {who} {verb} {plural}")
        if plural not in self.kinds:
            return 404, "404 page not found\n"
        if verb == "list":
            return 200, {"items": [found for found in self._all(plural) if _matches(found, query)]}
        if verb == "create":
            name = body["metadata"]["name"]
            if (plural, name) in self.objects:
                return _refused(409, "AlreadyExists", plural, name, f'{plural} "{name}" already exists')
            return 201, self.add(Kind(body["kind"], group, "", plural), body)
        found = self.objects.get((plural, name))
        if found is None:
            return _refused(404, "NotFound", plural, name, f'{plural} "{name}" not found')
        if verb == "get":
            return 200, found
        wanted = body.get("preconditions", {}) if verb == "delete" else body["metadata"]
        if any(found["metadata"][key] != wanted[key] for key in ("uid", "resourceVersion") if key in wanted):
            return _refused(409, "Conflict", plural, name, "the object has been modified")
        if verb == "delete":
            return 200, self.objects.pop((plural, name))
        found["metadata"] |= body["metadata"]
        return 200, self.touch(found)

    def _all(self, plural: str) -> list[Object]:
        return [found for (each, _), found in self.objects.items() if each == plural]


@contextmanager
def serving(server: ApiServer) -> Iterator[Cluster]:
    """The client that the launcher has, connected to the server."""
    from kubernetes.client import ApiClient, Configuration

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, found = server.answer(
                self.command, parts.path, parse_qs(parts.query), json.loads(body or b"{}")
            )
            data = found.encode() if isinstance(found, str) else json.dumps(found).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_POST = do_PATCH = do_DELETE = do_GET  # noqa: N815 - the names that the base class asks for

        def log_message(self, *_: Any) -> None:
            """The test's own output is enough."""

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    configuration = Configuration()
    configuration.host = f"http://127.0.0.1:{http.server_port}"
    client = ApiClient(configuration)
    try:
        yield Cluster(client, NAMESPACE)
    finally:
        client.rest_client.pool_manager.clear()
        client.close()
        http.shutdown()
        http.server_close()
        thread.join()


def _refused(status: int, reason: str, plural: str, name: str, message: str) -> tuple[int, Object]:
    details = {"name": name, "kind": plural} if name else {"kind": plural}
    return status, {"kind": "Status", "reason": reason, "message": message, "details": details}


def _matches(found: Object, query: dict[str, list[str]]) -> bool:
    labels = found["metadata"].get("labels", {})
    pairs = [pair.split("=") for text in query.get("labelSelector", []) for pair in text.split(",")]
    return all(labels.get(key) == value for key, value in pairs)
