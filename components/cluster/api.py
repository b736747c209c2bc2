"""A thin client of the API server: plain objects in and out, retried while it is away, with errors for people."""

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

import urllib3

from components.cluster.answers import Answer, Gone, Unseen, explain_answer, unreachable
from components.common.errors import StepError

Object = dict[str, Any]

CONNECT_S = 5.0
READ_S = 30.0
FOLLOW_S = 60.0
"""A log that is silent for so long is asked for anew: the connection may be dead."""
AWAY_S = 300.0
"""How long a server that has answered before may be away (an upgrade, a lost control plane)."""
FIRST_S = 10.0
TRANSIENT = (429, 500, 502, 503, 504)


@dataclass(frozen=True, slots=True)
class Kind:
    """Where objects of a kind live."""

    name: str
    group: str
    version: str
    plural: str

    def path(self, namespace: str) -> str:
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        return f"{root}/namespaces/{quote(namespace)}/{self.plural}"


JOB = Kind("Job", "batch", "v1", "jobs")
MPI_JOB = Kind("MPIJob", "kubeflow.org", "v2beta1", "mpijobs")
POD = Kind("Pod", "", "v1", "pods")
SERVICE = Kind("Service", "", "v1", "services")
CONFIG_MAP = Kind("ConfigMap", "", "v1", "configmaps")
EVENT = Kind("Event", "", "v1", "events")


class Cluster:
    """One namespace of one cluster. Errors are `ConveyorError`s that name verb, resource and cure.

    `client` is a `kubernetes.client.ApiClient` (see `connect.py`); only its address, certificates and credentials are
    used. Safe to use from several threads.
    """

    def __init__(self, client: Any, namespace: str, *, user: str = "") -> None:
        self._client = client
        self.namespace = namespace
        self.user = user
        self.server: str = client.configuration.host
        self._answered = False

    def get(self, kind: Kind, name: str) -> Object | None:
        """The object, None where there is none."""
        try:
            return self._call("GET", kind, name)
        except Gone:
            return None

    def find(self, kind: Kind, name: str) -> Object | None:
        """As `get`; None also where the server does not know the kind (no operator), or does not let us see it."""
        try:
            return self.get(kind, name)
        except Unseen:
            return None

    def create(self, kind: Kind, body: Object) -> Object | None:
        """Create it; None where one of that name exists already."""
        try:
            return self._call("POST", kind, "", body=body)
        except Answer as answer:
            if answer.status == 409 and answer.reason == "AlreadyExists":
                return None
            raise

    def patch(self, kind: Kind, name: str, body: Object) -> Object | None:
        """Merge `body` into the object; None where it has gone, or changed since (a `resourceVersion` decides)."""
        try:
            return self._call("PATCH", kind, name, body=body)
        except Gone:
            return None
        except Answer as answer:
            if answer.status == 409:
                return None
            raise

    def delete(self, kind: Kind, name: str, *, uid: str | None = None, version: str | None = None) -> bool:
        """Delete it with all that it owns, and wait until it has gone. Another one of that name (`uid`) is spared.

        False where it was left, since it has changed since `version` (a `resourceVersion`).
        """
        body: Object = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Foreground"}
        conditions = {"uid": uid, "resourceVersion": version}
        if given := {key: value for key, value in conditions.items() if value is not None}:
            body["preconditions"] = given
        try:
            self._call("DELETE", kind, name, body=body)
        except Gone:
            return True
        except Answer as answer:
            if answer.status != 409:
                raise
            return version is None
        end = time.monotonic() + AWAY_S
        while time.monotonic() < end:
            found = self.get(kind, name)
            if found is None or (uid is not None and found["metadata"]["uid"] != uid):
                return True
            time.sleep(0.5)
        raise StepError(
            f"the {kind.name} {name} was deleted and does not go away",
            where=f"namespace {self.namespace}",
            todo=f"kubectl -n {self.namespace} describe {kind.plural} {name}   says what holds it",
        )

    def list(self, kind: Kind, *, labels: str = "", fields: str = "") -> "list[Object]":
        """All objects that the selectors match."""
        query = {"labelSelector": labels, "fieldSelector": fields}
        found = self._call("GET", kind, "", query={name: text for name, text in query.items() if text})
        items: list[Object] = found.get("items") or []
        return items

    def logs(
        self, pod: str, *, since: str | None = None, follow: bool = True, container: str | None = None
    ) -> Iterator[bytes]:
        """Lines of a pod's log, each begun by its time, from the second `since` on (RFC 3339).

        Ends when the container has ended or the connection has; raises `Gone` where there is no such pod (any more), and
        `Unreachable` where nothing answers. Tries once: who follows asks again.
        """
        query = {"timestamps": "true", "follow": "true" if follow else "false"}
        if since is not None:
            query["sinceTime"] = since
        if container is not None:
            query["container"] = container
        path = f"{POD.path(self.namespace)}/{quote(pod)}/log"
        try:
            response = self._request("GET", path, query, None, stream=True)
            if response.status >= 400:
                raise self._answer(response, "get", POD, f"{pod}/log")
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise unreachable(self.server, error) from None
        pending = b""
        try:
            with suppress(urllib3.exceptions.HTTPError, OSError):
                for chunk in response.stream(65536):
                    *lines, pending = (pending + chunk).split(b"\n")
                    yield from lines
                if pending:
                    yield pending
        finally:
            response.close()  # A followed log is never read to its end by choice.

    def _call(
        self,
        method: str,
        kind: Kind,
        name: str,
        *,
        body: Object | None = None,
        query: Mapping[str, str] | None = None,
    ) -> Object:
        path = kind.path(self.namespace) + (f"/{quote(name)}" if name else "")
        verb = {"GET": "get" if name else "list", "POST": "create", "PATCH": "patch", "DELETE": "delete"}[
            method
        ]
        end = time.monotonic() + (AWAY_S if self._answered else FIRST_S)
        pause = 0.2
        while True:
            try:
                response = self._request(method, path, query or {}, body)
            except (urllib3.exceptions.HTTPError, OSError) as error:
                if time.monotonic() + pause > end or isinstance(error, urllib3.exceptions.SSLError):
                    raise unreachable(self.server, error) from None
            else:
                self._answered = True
                if response.status < 400:
                    found: Object = json.loads(response.data)
                    return found
                answer = self._answer(response, verb, kind, name)
                if response.status not in TRANSIENT or time.monotonic() + pause > end:
                    raise explain_answer(answer, self.namespace, self.user)
            time.sleep(pause)
            pause = min(2 * pause, 5.0)

    def _request(
        self, method: str, path: str, query: Mapping[str, str], body: Object | None, *, stream: bool = False
    ) -> Any:
        headers = {"Accept": "*/*" if stream else "application/json"}
        if body is not None:
            headers["Content-Type"] = (
                "application/merge-patch+json" if method == "PATCH" else "application/json"
            )
        self._client.update_params_for_auth(headers, [], ["BearerToken"])
        return self._client.rest_client.pool_manager.request(
            method,
            self.server + path + (f"?{urlencode(query)}" if query else ""),
            body=json.dumps(body) if body is not None else None,
            headers=headers,
            timeout=urllib3.Timeout(connect=CONNECT_S, read=FOLLOW_S if stream else READ_S),
            retries=False,
            preload_content=not stream,
        )

    def _answer(self, response: Any, verb: str, kind: Kind, name: str) -> Answer:
        try:
            status = json.loads(response.data)
        except ValueError:
            status = {}
        if not isinstance(status, dict):
            status = {}
        message = str(status.get("message") or response.data[:500].decode(errors="replace"))
        type_ = Gone if response.status == 404 and _is_gone(status, name) else Answer
        return type_(response.status, str(status.get("reason") or ""), message, verb, kind.plural, name)


def _is_gone(status: Mapping[str, Any], name: str) -> bool:
    """Whether a 404 is about the object, and not about its namespace or a kind that the server does not know."""
    details = status.get("details") or {}
    return bool(name) and (details.get("kind") != "namespaces") and bool(details.get("name"))
