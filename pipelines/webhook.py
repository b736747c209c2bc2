"""Sending one document to a webhook: signed, bounded in time and size, tried again where that can help."""

import base64
import hashlib
import hmac
import http.client
import os
import random
import re
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

from components.common.errors import InputError, StepError

MAX_BODY_BYTES = 64 << 10
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 8.0
TRY_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})
SECRETS = (
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "CONVEYOR_WEBHOOK_URL",
    "CONVEYOR_WEBHOOK_SECRET",
)
USERINFO = re.compile(r"(?<=://)[^/@\s]+@")


@dataclass(frozen=True, slots=True)
class Delivery:
    """What is sent, and where to."""

    url: str
    body: bytes
    event: str
    identity: str
    """The same for each try, so that a receiver can drop what it got twice."""
    secret: str = ""
    """Key of the signature; empty for none."""


class _Refused(Exception):
    """The receiver's answer, or what kept it from answering."""

    def __init__(self, found: str, *, again: bool, todo: str | None = None) -> None:
        super().__init__(found)
        self.found, self.again, self.todo = found, again, todo


def deliver(delivery: Delivery, *, timeout_s: float, deadline_s: float) -> None:
    """POST it, with growing pauses between tries. Raises `InputError` for a URL that cannot be used, else `StepError`.

    Follows no redirect: what is sent is for the receiver that was named. The URL, which may hold a token, is in no
    message.
    """
    parts = _checked(delivery)
    end, pause_s, tries = time.monotonic() + deadline_s, FIRST_PAUSE_S, 0
    while True:
        tries += 1
        try:
            _bounded(delivery, parts, min(timeout_s, end - time.monotonic()))
            return
        except _Refused as refused:
            wait_s = pause_s * random.uniform(0.5, 1.0)
            if not refused.again or time.monotonic() + wait_s >= end:
                raise StepError(
                    "the receiver did not take it",
                    where="CONVEYOR_WEBHOOK_URL",
                    found=f"{refused.found} ({tries} {'try' if tries == 1 else 'tries'})",
                    todo=refused.todo,
                ) from None
            time.sleep(wait_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)


def _checked(delivery: Delivery) -> SplitResult:
    try:
        parts = urlsplit(delivery.url)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        usable = False
    if not usable or not delivery.url.isprintable() or " " in delivery.url:
        raise InputError(
            "the webhook's URL cannot be used",
            where="CONVEYOR_WEBHOOK_URL",
            expected="http://host/... or https://host/...",
        )
    if len(delivery.body) > MAX_BODY_BYTES:
        raise StepError("the document is too large for a webhook", found=f"{len(delivery.body):,} bytes")
    return parts


def _bounded(delivery: Delivery, parts: SplitResult, timeout_s: float) -> None:
    """One try, that takes no longer than `timeout_s` even with a receiver that answers a byte at a time."""
    result: list[_Refused | None] = []

    def attempt() -> None:
        try:
            _send(delivery, parts, timeout_s)
            result.append(None)
        except _Refused as refused:
            result.append(refused)
        except (OSError, http.client.HTTPException, ValueError) as error:
            result.append(_Refused(f"{type(error).__name__}: {error}", again=True))

    # As a daemon: a hanging receiver must not keep the process either.
    thread = threading.Thread(target=attempt, daemon=True, name="webhook")
    thread.start()
    thread.join(timeout_s)
    if not result:
        raise _Refused(f"no answer within {timeout_s:.1f} s", again=True)
    if result[0] is not None:
        raise result[0]


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """What is sent is for the receiver that was named."""

    def redirect_request(self, *_: object) -> None:
        return None


def _send(delivery: Delivery, parts: SplitResult, timeout_s: float) -> None:
    place = parts._replace(netloc=parts.netloc.rpartition("@")[2], fragment="")
    request = urllib.request.Request(  # noqa: S310 - http and https only, as checked
        place.geturl(), delivery.body, _headers(delivery, parts), method="POST"
    )
    # Through HTTPS_PROXY and past NO_PROXY, as the environment says.
    opener = urllib.request.build_opener(_NoRedirect)
    try:
        opener.open(request, timeout=timeout_s).close()
    except urllib.error.HTTPError as answer:
        with answer:
            status = answer.code
        if status < 400:
            raise _Refused(
                f"status {status}, a redirect",
                again=False,
                todo="set the URL that it redirects to, if it is yours",
            ) from None
        raise _Refused(
            f"status {status}", again=status in TRY_AGAIN, todo="check the URL and what the receiver expects"
        ) from None
    except urllib.error.URLError as error:
        raise _Refused(f"{type(error.reason).__name__}: {error.reason}", again=True) from None


def _headers(delivery: Delivery, parts: SplitResult) -> dict[str, str]:
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "conveyor",
        "X-Conveyor-Event": delivery.event,
        "X-Conveyor-Delivery": delivery.identity,
    }
    if delivery.secret:
        signature = hmac.new(delivery.secret.encode(), delivery.body, hashlib.sha256).hexdigest()
        headers["X-Conveyor-Signature"] = f"sha256={signature}"
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
    return headers


def without_secrets(value: Any) -> Any:
    """The JSON value with every credential of the environment, and those in URLs, blotted out."""
    if isinstance(value, str):
        for name in SECRETS:
            secret = os.environ.get(name, "")
            if len(secret) >= 4:
                value = value.replace(secret, "***")
        return USERINFO.sub("***@", value)
    if isinstance(value, Mapping):
        return {name: without_secrets(child) for name, child in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_secrets(child) for child in value]
    return value
