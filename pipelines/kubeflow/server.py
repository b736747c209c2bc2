"""A Kubeflow Pipelines server, spoken to with kfp's own client; its refusals as errors that say what to do."""

import contextlib
import io
import json
import logging
import os
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import kfp_server_api
import urllib3
from kfp import Client
from kfp.client.token_credentials_base import TokenCredentialsBase

from components.common.errors import ConveyorError, InputError, StepError

HOST = "KF_PIPELINES_ENDPOINT"
TOKEN = "KF_PIPELINES_TOKEN"  # noqa: S105 - the name of a variable
TOKEN_FILE = "KF_PIPELINES_SA_TOKEN_PATH"  # noqa: S105
COOKIE = "KF_PIPELINES_COOKIE"
TIMEOUT_S = (10.0, 60.0)
"""To connect, and between two bytes."""
KFP_NAMESPACE = "kubeflow"


@dataclass(frozen=True, slots=True)
class Address:
    """Where the server is and how it knows us."""

    host: str | None = None
    """URL; unset finds the service through the kubeconfig, or in the cluster that this runs in."""
    namespace: str | None = None
    """The user's, on a server with several users."""
    token_file: Path | None = None
    """Holds the bearer token; else the environment does."""
    ca_file: Path | None = None
    """Certificates that the server's is checked with."""

    def options(self) -> list[str]:
        """What was given on the command line, to give it again."""
        given = (
            ("--host", self.host),
            ("--namespace", self.namespace),
            ("--token-file", self.token_file),
            ("--ca-file", self.ca_file),
        )
        return [text for name, value in given if value is not None for text in (name, str(value))]


class UnreachableError(StepError):
    """The server did not answer, or failed: trying again may help."""


class LoginError(InputError):
    """The server does not know who is asking, or does not let them: a token may have run out, or be renewed soon."""


class MissingError(InputError):
    """There is no such thing, or no longer."""


class TakenError(InputError):
    """What was to be made is there already."""


class _Token(TokenCredentialsBase):  # type: ignore[misc]
    """The bearer token, read anew for every request: in a pod it is renewed every hour.

    Given to kfp this way, it keeps looking for the server where no host is named (a token given as text ends the search
    at http://localhost).
    """

    def __init__(self, file: Path | None) -> None:
        self.file = file

    def refresh_api_key_hook(self, config: Any) -> None:
        config.api_key["authorization"] = read_token(self.file)


class _Client(Client):  # type: ignore[misc]
    """Without kfp's five loud tries of five seconds for the first answer, and never waiting for ever."""

    def _get_config_with_default_credentials(self, config: Any) -> Any:
        # In a pod kfp would put its account's token in place of the one that was given.
        return config if config.refresh_api_key_hook else super()._get_config_with_default_credentials(config)

    def get_kfp_healthz(self, sleep_duration: int = 5) -> Any:
        rest = self._healthz_api.api_client.rest_client
        if not isinstance(rest.request, _Bounded):
            rest.request = _Bounded(rest.request)
        return self._healthz_api.healthz_service_get_healthz()


@dataclass(frozen=True, slots=True)
class _Bounded:
    """A request that ends: in time, and not with a login page, which is no answer."""

    request: Callable[..., Any]

    def __call__(self, method: str, url: str, **options: Any) -> Any:
        if options.get("_request_timeout") is None:
            options["_request_timeout"] = TIMEOUT_S
        answer = self.request(method, url, **options)
        if "text/html" in (answer.getheader("Content-Type") or ""):
            raise LoginError(
                "a web page answered instead of the API: somebody has to log in first",
                where=url.partition("?")[0],
                todo=f"give a token (--token-file, or {TOKEN} in the environment) or the session's cookie "
                f"({COOKIE}); or check --host",
            )
        return answer


class Server:
    """A reachable server. Every call raises `InputError` where the server refuses, `UnreachableError` where it fails."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self.namespace = address.namespace
        options = _client_options(address)
        logging.getLogger("urllib3").setLevel(logging.ERROR)  # each of its tries is a warning on stderr
        with self._speaking(address.host or "the cluster of the kubeconfig"):
            self._client = _Client(**options)
            self.host: str = self._client._existing_config.host
            health = self._client.get_kfp_healthz()
        self.multi_user = health.multi_user is True
        if self.multi_user and not self.namespace:
            raise InputError(
                "this server has several users, and works in the namespace of each",
                where=self.host,
                expected="--namespace NAME",
                todo="give --namespace with the namespace of your profile",
            )

    def page_of(self, run_id: str) -> str | None:
        """Where a run is shown, as far as that can be known: the server and its interface are one address usually."""
        shown: str | None = self._client._uihost
        return f"{shown.rstrip('/')}/#/runs/details/{run_id}" if shown else None

    @contextlib.contextmanager
    def calling(self) -> Iterator[Any]:
        """The client of kfp for a call or two; what it prints is dropped, what it raises is explained."""
        with self._speaking(self.host):
            yield self._client

    @contextlib.contextmanager
    def _speaking(self, host: str) -> Iterator[None]:
        try:
            # kfp prints links to stdout, which holds results here.
            with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield
        except kfp_server_api.ApiException as error:
            raise refusal(error, host) from None
        except urllib3.exceptions.HTTPError as error:
            raise _unreachable(error, host) from None


def refusal(error: Any, host: str) -> ConveyorError:
    """What the server's status means for a person."""
    said = _message(error)
    if error.status == 401:
        return LoginError(
            "the Kubeflow server does not know who is asking",
            where=host,
            found=said,
            todo=f"give a token: --token-file FILE, or {TOKEN} in the environment",
        )
    if error.status == 403:
        return LoginError(
            "the Kubeflow server does not allow this",
            where=host,
            found=said,
            todo="check --namespace, and that you may edit there",
        )
    if error.status == 404:
        return MissingError(
            "the Kubeflow server does not have this", where=host, found=said, todo="check --host"
        )
    if error.status == 409:
        return TakenError("this name is taken on the Kubeflow server", where=host, found=said)
    if error.status in {429, 502, 503, 504}:
        return UnreachableError(
            "the Kubeflow server cannot answer just now", where=host, found=said, todo="try again"
        )
    if not error.status:  # TLS
        return InputError(
            "the Kubeflow server's certificate is not trusted",
            where=host,
            found=said,
            todo="give the certificate of its authority with --ca-file",
        )
    if error.status >= 500:
        return UnreachableError(
            "the Kubeflow server failed", where=host, found=said, todo="its log says more"
        )
    return InputError("the Kubeflow server refuses this", where=host, found=said)


def _message(error: Any) -> str:
    """The server's own words: the first line of its message."""
    text = error.body if isinstance(error.body, str) else (error.body or b"").decode(errors="replace")
    with contextlib.suppress(ValueError, AttributeError):
        value = json.loads(text)
        text = value.get("message") or value.get("error_message") or value.get("error") or text
    lines = (str(text) or str(error.reason)).strip().splitlines()
    return f"{error.status or ''} {lines[0] if lines else error.reason}".strip()[:500]


def _unreachable(error: Exception, host: str) -> ConveyorError:
    cause = getattr(error, "reason", None) or error
    if isinstance(cause, urllib3.exceptions.SSLError):
        return InputError(
            "the Kubeflow server's certificate is not trusted",
            where=host,
            found=str(cause)[:300],
            todo="give the certificate of its authority with --ca-file",
        )
    return UnreachableError(
        "the Kubeflow server does not answer",
        where=host,
        found=str(cause).rpartition(": ")[2][:300],
        todo="check --host; kubectl port-forward -n kubeflow svc/ml-pipeline 8888:8888 makes it "
        "http://localhost:8888",
    )


def _client_options(address: Address) -> dict[str, Any]:
    host = address.host or os.environ.get(HOST) or None
    if host is None and not _has_cluster():
        raise InputError(
            "no Kubeflow server is given",
            expected=f"--host URL, or {HOST} in the environment",
            todo="kubectl port-forward -n kubeflow svc/ml-pipeline 8888:8888, then --host http://localhost:8888",
        )
    if host is not None and not host.startswith(("http://", "https://")):
        raise InputError(
            "the server's address is not a URL", where=f"--host {host}", expected="https://… or http://…"
        )
    options: dict[str, Any] = {"host": host}
    # kfp takes the namespace of its own service and of the user in one argument; with a host it is the user's.
    if address.namespace is not None and host is not None:
        options["namespace"] = address.namespace
    if read_token(address.token_file) is not None:
        options["credentials"] = _Token(address.token_file)
    if os.environ.get(COOKIE):
        options["cookies"] = os.environ[COOKIE]
    if address.ca_file is not None:
        if not address.ca_file.is_file():
            raise InputError("there is no such certificate file", where=f"--ca-file {address.ca_file}")
        options["ssl_ca_cert"] = str(address.ca_file)
    return options


def read_token(file: Path | None) -> str | None:
    """From the file that is named, else from the environment; never from the command line, which others can read."""
    named = file or (Path(os.environ[TOKEN_FILE]) if os.environ.get(TOKEN_FILE) else None)
    if file is None and os.environ.get(TOKEN):
        return os.environ[TOKEN].strip()
    if named is None:
        return None
    try:
        token = named.read_text().strip()
    except OSError as error:
        raise InputError("the token cannot be read", where=str(named), found=error.strerror) from None
    if not token:
        raise InputError("the token is empty", where=str(named))
    return token


def _has_cluster() -> bool:
    if os.environ.get("KUBERNETES_SERVICE_HOST"):
        return True
    files = os.environ.get("KUBECONFIG", str(Path("~/.kube/config").expanduser())).split(os.pathsep)
    return any(Path(file).is_file() for file in files if file)
