"""Broken networks and moody servers, by a real proxy in front of a real server: what is repeated, and what is not."""

import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from components.common.canonical import digest_bytes
from components.common.errors import InputError, StoreError
from components.common.store import Store, StoreSettings, open_store
from components.common.store.base import NotFoundError
from support.faulty_proxy import Fault, FaultyProxy, Kind
from support.s3_servers import S3Server

pytestmark = pytest.mark.integration

MIB = 1 << 20
LARGE = os.urandom(11 * MIB)
"""Three parts of 5 MiB."""


@pytest.fixture
def proxy(s3_server: S3Server) -> Iterator[FaultyProxy]:
    with FaultyProxy(s3_server.endpoint) as proxy:
        yield proxy


@pytest.fixture
def direct(s3_store_url: str) -> Store:
    """The same store, past the proxy."""
    return open_store(s3_store_url)


@pytest.fixture
def store(request: pytest.FixtureRequest, proxy: FaultyProxy, s3_store_url: str) -> Store:
    """A store behind the proxy that has been used already. It is impatient only where the proxy stalls."""
    stalls = "stall" in request.node.name
    settings = StoreSettings(endpoint=proxy.url, part_size_mib=5, read_timeout_s=2.0 if stalls else 60.0)
    store = open_store(s3_store_url, settings)
    store.put("warm-up", b"")
    proxy.seen.clear()
    return store


@pytest.mark.parametrize("kind", ["refuse", "drop", "answer", "damage", "stall"])
def test_puts_are_repeated(store: Store, proxy: FaultyProxy, s3_server: S3Server, kind: Kind) -> None:
    if kind == "damage" and s3_server.name == "moto":
        pytest.skip("moto does not look at Content-MD5")
    proxy.faults.append(Fault(kind, "PUT", "object", times=1 if kind == "stall" else 2))
    store.put("object", b"precious")
    # A busy machine may let a short time-out pass once more.
    assert proxy.count("PUT", "object") >= 2 if kind == "stall" else proxy.count("PUT", "object") == 3
    assert store.read("object")[0] == b"precious"


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (500, "InternalError"),
        (502, ""),
        (503, "SlowDown"),
        (503, "ServiceUnavailable"),
        (429, "TooManyRequests"),
        (400, "RequestTimeout"),
        (409, "OperationAborted"),
    ],
)
def test_answers_that_are_repeated(store: Store, proxy: FaultyProxy, status: int, code: str) -> None:
    store.put("object", b"1")
    for method, call in (
        ("PUT", lambda: store.put("object", b"2")),
        ("GET", lambda: store.read("object")),
        ("HEAD", lambda: store.stat("object")),
        ("DELETE", lambda: store.delete("object")),
    ):
        if method == "HEAD" and status == 400:
            continue  # an answer to HEAD has no body, and so no code
        proxy.seen.clear()
        proxy.faults.append(Fault("answer", method, "object", status=status, code=code))
        call()
        assert proxy.count(method, "object") == 2


@pytest.mark.parametrize(
    ("status", "code", "error", "message"),
    [
        (403, "AccessDenied", InputError, "may not"),
        (403, "SignatureDoesNotMatch", InputError, "wrong key or secret"),
        (403, "InvalidAccessKeyId", InputError, "wrong key or secret"),
        (400, "ExpiredToken", InputError, "expired"),
        (404, "NoSuchBucket", InputError, "no such bucket"),
        (404, "NoSuchKey", NotFoundError, "no such object"),
        (400, "InvalidArgument", StoreError, "InvalidArgument"),
        (507, "InsufficientStorage", StoreError, "full"),
    ],
)
def test_answers_that_are_final(
    store: Store, proxy: FaultyProxy, status: int, code: str, error: type[Exception], message: str
) -> None:
    proxy.faults.append(Fault("answer", "GET", "object", status=status, code=code, times=100))
    with pytest.raises(error, match=message):
        store.read("object")
    assert proxy.count("GET", "object") == 1


@pytest.mark.parametrize("kind", ["truncate", "reset", "stall"])
def test_a_broken_body_is_continued_where_it_broke(
    store: Store, direct: Store, proxy: FaultyProxy, kind: Kind
) -> None:
    direct.put("large", LARGE)
    proxy.faults.append(Fault(kind, "GET", "large", times=1 if kind == "stall" else 3))
    with store.open("large") as stream:
        assert digest_bytes(stream.read()) == digest_bytes(LARGE)
    proxy.faults.append(Fault(kind, "GET", "large"))
    with store.open("large", offset=3 * MIB, length=5 * MIB) as stream:
        assert digest_bytes(stream.read()) == digest_bytes(LARGE[3 * MIB : 8 * MIB])


def test_a_body_that_always_breaks_is_an_error(proxy: FaultyProxy, s3_store_url: str) -> None:
    store = open_store(s3_store_url, StoreSettings(endpoint=proxy.url, max_attempts=2))
    store.put("object", b"precious")
    # Half of one byte is none: nothing ever arrives.
    store.put("byte", b"1")
    proxy.faults.append(Fault("truncate", "GET", "byte", times=100))
    with pytest.raises(StoreError, match="could not read"):
        store.read("byte")


def test_a_replaced_object_is_not_mixed(store: Store, direct: Store, proxy: FaultyProxy) -> None:
    direct.put("object", b"a" * 4 * MIB)
    proxy.faults.append(Fault("truncate", "GET", "object"))
    with store.open("object") as stream:
        assert stream.read(MIB) == b"a" * MIB
        direct.put("object", b"b" * 4 * MIB)
        with pytest.raises(StoreError, match="was replaced while"):
            stream.read()


@pytest.mark.parametrize("kind", ["drop", "stall"])
def test_a_create_whose_answer_was_lost_is_settled_as_won(
    store: Store, proxy: FaultyProxy, kind: Kind
) -> None:
    proxy.faults.append(Fault(kind, "PUT", "record"))
    assert store.create("record", b"mine")
    assert proxy.count("PUT", "record") >= 2
    assert proxy.count("HEAD", "record") >= 1
    assert not store.create("record", b"mine")


def test_a_create_that_somebody_else_won_meanwhile_is_settled_as_lost(
    store: Store, direct: Store, proxy: FaultyProxy
) -> None:
    def overtake() -> None:
        assert direct.create("record", b"same bytes")

    proxy.faults.append(Fault("refuse", "PUT", "record", before=overtake))
    assert not store.create("record", b"same bytes")
    assert proxy.count("PUT", "record") == 2


def test_a_conflict_is_repeated(store: Store, proxy: FaultyProxy) -> None:
    proxy.faults.append(
        Fault("answer", "PUT", "record", status=409, code="ConditionalRequestConflict", times=2)
    )
    assert store.create("record", b"mine")


def test_a_swap_whose_answer_was_lost_is_settled_as_won(
    store: Store, direct: Store, proxy: FaultyProxy
) -> None:
    direct.put("pointer", b"1")
    tag = direct.read("pointer")[1]
    proxy.faults.append(Fault("drop", "PUT", "pointer"))
    assert store.swap("pointer", b"2", tag=tag)
    assert not store.swap("pointer", b"3", tag=tag)
    assert direct.read("pointer")[0] == b"2"


def test_parts_are_repeated_one_by_one(
    store: Store, direct: Store, proxy: FaultyProxy, tmp_path: Path
) -> None:
    path = tmp_path / "large"
    path.write_bytes(LARGE)
    proxy.faults += [Fault("refuse", "PUT", "partNumber=2"), Fault("answer", "PUT", "partNumber=3")]
    store.put("large", path, digest=digest_bytes(LARGE))
    assert proxy.count("PUT", "partNumber") == 5
    assert direct.read("large")[0] == LARGE


def test_the_end_of_an_upload_whose_answer_was_lost(store: Store, direct: Store, proxy: FaultyProxy) -> None:
    proxy.faults.append(Fault("drop", "POST", "uploadId"))
    store.put("large", LARGE, digest=digest_bytes(LARGE))
    assert direct.read("large")[0] == LARGE


def test_an_upload_that_cannot_end_is_taken_back(s3_store_url: str, proxy: FaultyProxy) -> None:
    store = open_store(s3_store_url, StoreSettings(endpoint=proxy.url, part_size_mib=5, max_attempts=2))
    store.put("warm-up", b"")
    proxy.faults.append(Fault("answer", "PUT", "partNumber=3", times=100))
    with pytest.raises(StoreError, match="could not write"):
        store.put("large", LARGE)
    assert store.stat("large") is None
    in_a_day = (datetime.now(UTC) + timedelta(days=1)).timestamp()
    assert list(store.leftovers(in_a_day)) == []


def test_every_page_of_a_list_is_repeated(store: Store, proxy: FaultyProxy) -> None:
    store.put("a", b"")
    proxy.faults.append(Fault("truncate", "GET", "list-type=2", times=2))
    assert [info.key for info in store.list("a")] == ["a"]


def test_a_busy_server_is_waited_for_from_the_start(s3_store_url: str, proxy: FaultyProxy) -> None:
    proxy.faults.append(Fault("answer", "GET", times=5))
    with pytest.raises(NotFoundError):
        open_store(s3_store_url, StoreSettings(endpoint=proxy.url)).read("a")
    assert proxy.count("GET") == 6


def test_a_server_that_is_not_there_is_told_soon(s3_store_url: str, proxy: FaultyProxy) -> None:
    proxy.faults.append(Fault("refuse", "GET", times=1000))
    started = time.monotonic()
    with pytest.raises(StoreError):
        open_store(s3_store_url, StoreSettings(endpoint=proxy.url)).read("a")
    assert proxy.count("GET") == 5
    assert time.monotonic() - started < 30
