"""Waiting for a real S3 server: its bucket may come later, other credentials do not."""

import secrets

import pytest

from components.common.errors import InputError
from components.common.progress import make_reporter
from components.common.store import open_store
from components.common.store.bucket import make_bucket
from components.common.wait import Clock, wait_for_store
from support.s3_servers import S3Server

pytestmark = pytest.mark.integration
DEADLINE_S = 600.0


def test_a_bucket_that_is_made_meanwhile_is_enough(s3_server: S3Server) -> None:
    if s3_server.name in ("moto", "endpoint"):
        pytest.skip("a bucket is made in a server of our own")
    store = open_store(f"s3://conveyor-test-{secrets.token_hex(6)}/store")
    turns: list[float] = []

    def later(_seconds: float) -> None:
        turns.append(_seconds)
        if len(turns) == 2:
            make_bucket(store)

    wait_for_store(store, make_reporter(quiet=True), deadline_s=DEADLINE_S, clock=Clock(sleep=later))
    assert len(turns) == 2


def test_wrong_credentials_are_told_at_once(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    if s3_server.name == "moto":
        pytest.skip("moto accepts any secret")
    bucket = s3_server.buckets[0] if s3_server.buckets else s3_server.make_bucket()
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another-secret-of-some-length")
    with pytest.raises(InputError, match="refused the credentials"):
        wait_for_store(
            open_store(f"s3://{bucket}/store"),
            make_reporter(quiet=True),
            deadline_s=DEADLINE_S,
            clock=Clock(sleep=lambda _seconds: pytest.fail("nothing to wait for")),
        )
