"""S3 servers of other kinds and in other states: wrong, missing, foreign, old, behind TLS or a proxy."""

import ssl
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from components.common.errors import InputError, StoreError
from components.common.store import StoreSettings, open_store
from support import s3_servers
from support.faulty_proxy import Fault, FaultyProxy, Request
from support.s3_servers import S3Server, free_port

pytestmark = pytest.mark.integration


@pytest.fixture
def moto_url(start_s3_server: Callable[[str], S3Server], monkeypatch: pytest.MonkeyPatch) -> str:
    """A store on moto's server, which checks no signature, so that requests may be changed on their way."""
    server = start_s3_server("moto")
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    return f"s3://{server.make_bucket()}"


@pytest.fixture
def moto_proxy(moto_url: str, start_s3_server: Callable[[str], S3Server]) -> Iterator[FaultyProxy]:
    with FaultyProxy(start_s3_server("moto").endpoint) as proxy:
        yield proxy


@pytest.mark.parametrize("header", ["If-None-Match", "If-Match"])
def test_a_server_that_ignores_a_condition_is_refused(
    moto_proxy: FaultyProxy, moto_url: str, header: str
) -> None:
    def forget(request: Request) -> None:
        del request.headers[header]

    moto_proxy.rewrite = forget
    for _ in range(2):  # a refusal is not remembered as consent
        store = open_store(moto_url, StoreSettings(endpoint=moto_proxy.url))
        with pytest.raises(StoreError, match=f"does not honour the conditional header {header}") as caught:
            store.put("a", b"1")
        assert caught.value.todo is not None
        with pytest.raises(StoreError, match="does not honour"):
            store.check()
    assert [info.key for info in open_store(moto_url).list()] == []


@pytest.mark.parametrize("header", ["If-None-Match", "If-Match"])
def test_a_server_that_knows_no_condition_is_refused(
    moto_proxy: FaultyProxy, moto_url: str, header: str
) -> None:
    moto_proxy.faults.append(
        Fault("answer", "PUT", times=100, status=501, code="NotImplemented", only_with=header)
    )
    store = open_store(moto_url, StoreSettings(endpoint=moto_proxy.url))
    with pytest.raises(StoreError, match="does not honour the conditional header"):
        store.put("a", b"1")


def test_an_etag_that_must_stand_without_quotes(moto_proxy: FaultyProxy, moto_url: str) -> None:
    def like_ceph(request: Request) -> None:
        tag = request.headers.get("If-Match")
        if tag is not None:
            del request.headers["If-Match"]
            request.headers["If-Match"] = '"never"' if tag.startswith('"') else f'"{tag}"'

    moto_proxy.rewrite = like_ceph
    store = open_store(moto_url, StoreSettings(endpoint=moto_proxy.url))
    store.put("pointer", b"1")
    tag = store.read("pointer")[1]
    assert store.swap("pointer", b"2", tag=tag)
    assert not store.swap("pointer", b"3", tag=tag)
    assert store.read("pointer")[0] == b"2"


def test_the_probe_is_noted_in_the_store(moto_proxy: FaultyProxy, moto_url: str) -> None:
    settings = StoreSettings(endpoint=moto_proxy.url)
    open_store(moto_url, settings).put("a", b"1")
    moto_proxy.seen.clear()
    store = open_store(moto_url, settings)
    store.put("a", b"2")
    store.put("a", b"3")
    assert moto_proxy.count("GET", "probes/") == 1
    assert moto_proxy.count("PUT", "probes/") == 0


def test_reading_needs_no_right_to_write(moto_proxy: FaultyProxy, moto_url: str) -> None:
    open_store(moto_url).put("a", b"1")
    assert open_store(moto_url, StoreSettings(endpoint=moto_proxy.url)).read("a")[0] == b"1"
    assert moto_proxy.count("PUT") == 0


def test_a_missing_bucket(s3_server: S3Server) -> None:
    url = "s3://conveyor-has-no-such-bucket/prefix"
    calls: list[Callable[[], object]] = [
        lambda: open_store(url).read("a"),
        lambda: open_store(url).stat("a"),
        lambda: list(open_store(url).list()),
        lambda: open_store(url).put("a", b""),
        lambda: open_store(url).create("a", b""),
        lambda: open_store(url).check(),
    ]
    for call in calls:
        with pytest.raises(InputError, match="there is no such bucket") as caught:
            call()
        assert "s3 mb s3://conveyor-has-no-such-bucket" in (caught.value.todo or "")


@pytest.mark.skipif(s3_servers.available() == ["moto"], reason="moto accepts any secret")
@pytest.mark.parametrize("variable", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
def test_wrong_credentials(s3_store_url: str, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, "surelywrong")
    calls: list[Callable[[], object]] = [
        lambda: open_store(s3_store_url).read("a"),
        lambda: open_store(s3_store_url).stat("a"),
        lambda: open_store(s3_store_url).put("a", b""),
        lambda: open_store(s3_store_url).check(),
    ]
    for call in calls:
        with pytest.raises(InputError, match="wrong key or secret") as caught:
            call()
        assert "AWS_SECRET_ACCESS_KEY" in (caught.value.todo or "")
        assert "surelywrong" not in (str(caught.value) if variable == "AWS_SECRET_ACCESS_KEY" else "")


def test_no_credentials(s3_store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(InputError, match="no credentials"):
        open_store(s3_store_url).read("a")


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("AWS_PROFILE", "nobody-has-this", "unknown profile"),
        ("AWS_CONFIG_FILE", __file__, "configuration cannot be read"),
        ("CONVEYOR_S3_CA_BUNDLE", "/no/such/file.pem", "no such certificate file"),
        ("CONVEYOR_S3_REGION", "no such region!", "cannot be used"),
    ],
)
def test_a_wrong_set_up(
    s3_store_url: str, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, message: str
) -> None:
    monkeypatch.setenv(variable, value)
    for call in (lambda: open_store(s3_store_url).read("a"), lambda: open_store(s3_store_url).put("a", b"")):
        with pytest.raises(InputError, match=message):
            call()


def test_an_endpoint_where_nothing_listens(s3_store_url: str) -> None:
    settings = StoreSettings(endpoint=f"http://127.0.0.1:{free_port()}")
    with pytest.raises(StoreError, match="cannot be reached") as caught:
        open_store(s3_store_url, settings).read("a")
    assert "CONVEYOR_S3_ENDPOINT" in (caught.value.todo or "")


def test_a_forward_proxy_is_used(s3_server: S3Server, s3_store_url: str) -> None:
    with FaultyProxy(s3_server.endpoint) as proxy:
        store = open_store(s3_store_url, StoreSettings(proxy=proxy.url))
        store.put("proxied", b"1")
        assert store.read("proxied")[0] == b"1"
        assert proxy.count("PUT", "/proxied") == 1


def test_an_own_authority_must_be_named(s3_server: S3Server, s3_store_url: str, tmp_path: Path) -> None:
    certificate, key = self_signed(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with FaultyProxy(s3_server.endpoint, tls=context) as proxy:
        store = open_store(s3_store_url, StoreSettings(endpoint=proxy.url, ca_bundle=str(certificate)))
        store.put("a", b"1")
        assert store.read("a")[0] == b"1"
        proxy.seen.clear()
        with pytest.raises(InputError, match="certificate is not trusted") as caught:
            open_store(s3_store_url, StoreSettings(endpoint=proxy.url)).read("a")
        assert "ca_bundle" in (caught.value.todo or "")
        assert proxy.seen == []


def self_signed(folder: Path) -> tuple[Path, Path]:
    """Certificate and key for 127.0.0.1, as PEM files."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "conveyor test")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    paths = folder / "certificate.pem", folder / "key.pem"
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return paths
