"""`conveyor store init` and the example in a bucket, against a real server."""

import secrets
from pathlib import Path

import pytest

from components.common.store import open_store
from pipelines.cli import invoke
from pipelines.example import digit_files
from support.s3_servers import S3Server

pytestmark = pytest.mark.integration


def test_makes_the_bucket_once_and_then_finds_it(
    s3_server: S3Server, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"s3://conveyor-init-{secrets.token_hex(6)}/experiments"
    assert invoke(["store", "init", "--store", url]) == 0
    assert f"{url}: made;" in capsys.readouterr().out
    assert invoke(["store", "init", "--store", url]) == 0
    assert f"{url}: was there;" in capsys.readouterr().out


def test_wrong_credentials_are_told_at_once(
    s3_server: S3Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if s3_server.name == "moto":
        pytest.skip("moto takes any secret")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-the-secret")
    assert invoke(["store", "init", "--store", "s3://conveyor-refused", "--wait", "600"]) == 2
    assert "the store refused the credentials" in capsys.readouterr().err


def test_the_example_goes_into_a_bucket(s3_server: S3Server, tmp_path: Path) -> None:
    bucket = s3_server.make_bucket()
    config = tmp_path / "config.yaml"
    config.write_text(f"store: {{url: 's3://{bucket}/store', endpoint: '{s3_server.endpoint}'}}\n")
    place = f"s3://{bucket}/digits"
    assert invoke(["example", "digits", place, "-f", str(config)]) == 0
    assert invoke(["example", "digits", place, "-f", str(config)]) == 0  # completes; here nothing is missing
    there = {info.key: info.size_bytes for info in open_store(place).list()}
    assert there == {name: len(data) for name, data in digit_files()}
