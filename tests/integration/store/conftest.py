"""The stores that the conformance suite runs against."""

import secrets
from collections.abc import Callable
from pathlib import Path

import pytest

from components.common.store import Store, open_store
from support import s3_servers
from support.s3_servers import S3Server

KINDS = ["file", *s3_servers.available()]


@pytest.fixture(params=KINDS)
def store_url(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    start_s3_server: Callable[[str], S3Server],
    monkeypatch: pytest.MonkeyPatch,
) -> str:
    """URL of an empty store of each kind in turn; the environment has what it needs."""
    kind: str = request.param
    if kind == "file":
        return (tmp_path / "store").as_uri()
    server = start_s3_server(kind)
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("CONVEYOR_S3_PART_SIZE_MIB", "5")
    bucket = server.buckets[0] if server.buckets else server.make_bucket()
    return f"s3://{bucket}/{secrets.token_hex(6)}"


@pytest.fixture
def store(store_url: str) -> Store:
    return open_store(store_url)
