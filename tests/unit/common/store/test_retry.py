import pytest
from botocore import exceptions as boto
from urllib3.exceptions import ProtocolError

from components.common.store.retry import Backoff, is_transient, retry


def answer(status: int, code: str) -> boto.ClientError:
    return boto.ClientError(
        {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}, "GetObject"
    )


TRANSIENT = [
    answer(503, "SlowDown"),
    answer(500, "InternalError"),
    answer(400, "RequestTimeout"),
    answer(409, "ConditionalRequestConflict"),
    answer(429, ""),
    boto.ReadTimeoutError(endpoint_url="x"),
    boto.ConnectTimeoutError(endpoint_url="x"),
    boto.ConnectionClosedError(endpoint_url="x"),
    boto.EndpointConnectionError(endpoint_url="x"),
    boto.IncompleteReadError(actual_bytes=1, expected_bytes=2),
    boto.ResponseStreamingError(error="reset"),
    boto.SSLError(endpoint_url="x", error="EOF occurred in violation of protocol"),
    ProtocolError("broken"),
    ConnectionResetError(),
    TimeoutError(),
]
FINAL = [
    answer(403, "AccessDenied"),
    answer(404, "NoSuchKey"),
    answer(412, "PreconditionFailed"),
    answer(501, "NotImplemented"),
    answer(400, "InvalidArgument"),
    boto.NoCredentialsError(),
    boto.ParamValidationError(report="x"),
    boto.SSLError(endpoint_url="x", error="[SSL: CERTIFICATE_VERIFY_FAILED] self-signed"),
    ValueError(),
    OSError(28, "No space left on device"),
]


@pytest.mark.parametrize("error", TRANSIENT, ids=str)
def test_transient(error: Exception) -> None:
    assert is_transient(error)


@pytest.mark.parametrize("error", FINAL, ids=str)
def test_final(error: Exception) -> None:
    assert not is_transient(error)


def test_it_goes_on_until_it_works() -> None:
    outcomes: list[Exception | str] = [ConnectionResetError(), answer(503, "SlowDown"), "done"]
    pauses: list[float] = []

    def action() -> str:
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    assert retry(action, Backoff(), sleep=pauses.append) == "done"
    assert len(pauses) == 2


def test_it_gives_up_with_the_last_error() -> None:
    pauses: list[float] = []

    def action() -> None:
        raise TimeoutError(str(len(pauses)))

    with pytest.raises(TimeoutError, match="4"):
        retry(action, Backoff(max_attempts=5), sleep=pauses.append)
    assert len(pauses) == 4


def test_pauses_grow_to_a_bound_and_vary() -> None:
    backoff = Backoff(base_s=0.1, cap_s=5.0)
    for attempt, bound in ((0, 0.1), (1, 0.2), (5, 3.2), (6, 5.0), (60, 5.0)):
        pauses = [backoff.pause_s(attempt) for _ in range(200)]
        assert all(0 <= pause <= bound for pause in pauses)
        assert max(pauses) > bound / 2
        assert min(pauses) < bound / 2
