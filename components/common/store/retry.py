"""Trying again: what can succeed later, after a jittered and growing pause; nothing else, and not for ever."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from botocore import exceptions as boto
from urllib3 import exceptions as http

T = TypeVar("T")

TRANSIENT_CODES = frozenset(
    {
        "BadDigest",  # damaged on the way: we computed it from the very bytes that we sent
        "BandwidthLimitExceeded",
        "ConditionalRequestConflict",
        "IncompleteBody",
        "InternalError",
        "OperationAborted",
        "PriorRequestNotComplete",
        "RequestLimitExceeded",
        "RequestTimeout",
        "ServiceUnavailable",
        "SlowDown",
        "SlowDownRead",
        "SlowDownWrite",
        "Throttling",
        "ThrottlingException",
        "TooManyRequests",
        "XMinioServerNotInitialized",
    }
)
TRANSIENT_STATUS = frozenset({408, 409, 429, 500, 502, 503, 504})
TRANSIENT_ERRORS: tuple[type[BaseException], ...] = (
    boto.ConnectionError,  # refused, reset, timed out, closed; proxies; a body that breaks off is in here too
    boto.HTTPClientError,
    boto.IncompleteReadError,
    http.HTTPError,
    ConnectionError,
    TimeoutError,
)


@dataclass(frozen=True, slots=True)
class Backoff:
    """How often and how far apart: full jitter between 0 and a bound that doubles with each try."""

    max_attempts: int = 8
    base_s: float = 0.2
    cap_s: float = 20.0

    def pause_s(self, attempt: int) -> float:
        """Seconds to wait after the failed try number `attempt` (from 0).

        Jitter over the whole span spreads clients best: Brooker, "Exponential Backoff And Jitter", AWS, 2015.
        """
        return random.uniform(0, min(self.cap_s, self.base_s * 2.0**attempt))


def is_transient(error: BaseException) -> bool:
    """Could the same request succeed later?"""
    if isinstance(error, boto.ClientError):
        code = str(error.response.get("Error", {}).get("Code", ""))
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return code in TRANSIENT_CODES or status in TRANSIENT_STATUS
    if is_untrusted(error):
        return False
    return isinstance(error, TRANSIENT_ERRORS)


def is_untrusted(error: BaseException) -> bool:
    """Was the server's certificate refused? Other TLS errors are broken connections."""
    return isinstance(error, boto.SSLError) and "CERTIFICATE_VERIFY_FAILED" in str(error)


def retry(
    action: Callable[[], T],
    backoff: Backoff | Callable[[], Backoff],
    *,
    sleep: Callable[[float], None] = time.sleep,
) -> T:
    """The result of `action`, tried again after transient errors; raises the last error as it came.

    `backoff` may be a function, which is asked anew after each failure.
    """
    attempt = 0
    while True:
        try:
            return action()
        except Exception as error:
            attempt += 1
            policy = backoff() if callable(backoff) else backoff
            if attempt >= policy.max_attempts or not is_transient(error):
                raise
        sleep(policy.pause_s(attempt - 1))
