import pytest
from pydantic import ValidationError

from components.common.errors import InputError
from components.common.sections import StoreSection
from components.common.store.s3 import S3Store
from components.common.store.s3_client import make_client
from components.common.store.settings import ENV_PREFIX, StoreSettings

EXAMPLES = {
    "endpoint": ("https://minio.example:9000", "https://minio.example:9000"),
    "region": ("eu-central-1", "eu-central-1"),
    "addressing": ("virtual", "virtual"),
    "ca_bundle": ("/etc/ca.pem", "/etc/ca.pem"),
    "server_side_encryption": ("aws:kms", "aws:kms"),
    "kms_key_id": ("alias/conveyor", "alias/conveyor"),
    "proxy": ("http://proxy.example:3128", "http://proxy.example:3128"),
    "max_attempts": ("3", 3),
    "connect_timeout_s": ("1.5", 1.5),
    "read_timeout_s": ("30", 30.0),
    "part_size_mib": ("64", 64),
    "max_concurrency": ("2", 2),
}


def test_every_setting_can_come_from_the_environment() -> None:
    assert set(EXAMPLES) == set(StoreSettings.model_fields)
    environment = {ENV_PREFIX + name.upper(): text for name, (text, _) in EXAMPLES.items()}
    read = StoreSettings().completed(environment)
    assert read.model_dump() == {name: value for name, (_, value) in EXAMPLES.items()}


def test_what_the_config_sets_wins_over_the_environment() -> None:
    environment = {"CONVEYOR_S3_REGION": "eu-west-1", "CONVEYOR_S3_MAX_ATTEMPTS": "3"}
    read = StoreSettings(region="us-east-2").completed(environment)
    assert (read.region, read.max_attempts) == ("us-east-2", 3)


def test_the_section_of_a_config_file_is_completed_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVEYOR_S3_ENDPOINT", "http://host:9000")
    store = StoreSection(url="s3://bucket/prefix", max_attempts=3).open()
    assert isinstance(store, S3Store)
    assert (store.settings.endpoint, store.settings.max_attempts) == ("http://host:9000", 3)


def test_an_empty_variable_is_unset() -> None:
    assert StoreSettings().completed({"CONVEYOR_S3_ENDPOINT": ""}).endpoint is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MAX_ATTEMPTS", "many"),
        ("ADDRESSING", "sideways"),
        ("ENDPOINT", "minio:9000"),
        ("PART_SIZE_MIB", "1"),
    ],
)
def test_a_wrong_variable_is_named(name: str, value: str) -> None:
    with pytest.raises(InputError) as caught:
        StoreSettings().completed({f"CONVEYOR_S3_{name}": value})
    assert f"CONVEYOR_S3_{name}" in str(caught.value)
    assert value in str(caught.value)


@pytest.mark.parametrize("name", ["endpoint", "proxy"])
def test_credentials_in_urls_are_refused(name: str) -> None:
    with pytest.raises(ValidationError, match="without user and password"):
        StoreSettings.model_validate({name: "http://user:secret@host"})


def test_a_key_without_kms_is_refused() -> None:
    with pytest.raises(ValidationError, match="only together"):
        StoreSettings(kms_key_id="key")


def test_there_is_no_setting_for_credentials() -> None:
    assert not [name for name in StoreSettings.model_fields if "secret" in name or "password" in name]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (StoreSettings(endpoint="http://host:9000"), "http://host:9000/bucket/key"),
        (StoreSettings(endpoint="http://host:9000", addressing="virtual"), "http://bucket.host:9000/key"),
        (StoreSettings(region="us-east-1"), "https://bucket.s3.amazonaws.com/key"),
        (
            StoreSettings(region="eu-west-1", addressing="path"),
            "https://s3.eu-west-1.amazonaws.com/bucket/key",
        ),
    ],
)
def test_addressing(settings: StoreSettings, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "nothing")
    client = make_client(settings)
    url = client.generate_presigned_url("get_object", Params={"Bucket": "bucket", "Key": "key"})
    assert url.partition("?")[0] == expected


def test_encryption_is_asked_for() -> None:
    store = S3Store("s3://bucket", StoreSettings(server_side_encryption="aws:kms", kms_key_id="k"))
    assert store._extra == {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "k"}
