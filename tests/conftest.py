"""Fixtures for all tests: real S3 servers, each started once per run and only where a test asks for it."""

import secrets
from collections.abc import Callable, Iterator

import pytest

from support import s3_servers
from support.s3_servers import S3Server


def pytest_report_header() -> str:
    return s3_servers.describe()


@pytest.fixture(scope="session")
def start_s3_server() -> Iterator[Callable[[str], S3Server]]:
    """Server name ("minio", "versitygw", "endpoint", "moto") → the running server, started at the first call."""
    running: dict[str, S3Server] = {}

    def start(name: str) -> S3Server:
        if name not in running:
            running[name] = s3_servers.start(name)
        return running[name]

    yield start
    for server in running.values():
        server.stop()


@pytest.fixture
def s3_server(start_s3_server: Callable[[str], S3Server], monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """The best S3 server of this machine (MinIO before versitygw before moto's).

    This process's environment, which children inherit, has its endpoint and credentials while the test runs.
    """
    server = start_s3_server(s3_servers.available()[0])
    use_s3_server(server, monkeypatch)
    return server


@pytest.fixture
def s3_store_url(s3_server: S3Server) -> str:
    """URL of an empty store on `s3_server`."""
    return new_store_url(s3_server)


def use_s3_server(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "AWS_PROFILE",
        "AWS_SESSION_TOKEN",
        "AWS_ENDPOINT_URL",
        "AWS_ENDPOINT_URL_S3",
        "AWS_CA_BUNDLE",
    ):
        monkeypatch.delenv(name, raising=False)
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)


def new_store_url(server: S3Server) -> str:
    """An own prefix in one bucket of the server, so that stores of different tests do not meet."""
    bucket = server.buckets[0] if server.buckets else server.make_bucket()
    return f"s3://{bucket}/{secrets.token_hex(6)}"
