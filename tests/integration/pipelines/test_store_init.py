"""`conveyor store init`, `conveyor store check` and the example in a bucket, against a real server."""

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


def test_a_check_makes_nothing(s3_server: S3Server, capsys: pytest.CaptureFixture[str]) -> None:
    url = f"s3://conveyor-check-{secrets.token_hex(6)}/experiments"
    for _ in range(2):
        assert invoke(["store", "check", "--store", url, "--wait", "600"]) == 2
        assert "there is no such bucket" in capsys.readouterr().err
    assert invoke(["store", "init", "--store", url]) == 0
    assert invoke(["store", "check", "--store", url]) == 0
    assert f"{url}: is there; readable, writable" in capsys.readouterr().out


def test_a_server_that_is_away_is_told_with_its_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("store: {url: 's3://nobody/x', endpoint: 'http://127.0.0.1:9', max_attempts: 1}\n")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "x" * 8)
    assert invoke(["store", "check", "-f", str(config)]) == 3
    assert "http://127.0.0.1:9" in capsys.readouterr().err


@pytest.mark.parametrize("what", ["init", "check"])
def test_wrong_credentials_are_told_at_once(
    s3_server: S3Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    if s3_server.name == "moto":
        pytest.skip("moto takes any secret")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-the-secret")
    assert invoke(["store", what, "--store", "s3://conveyor-refused", "--wait", "600"]) == 2
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
