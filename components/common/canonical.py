"""One byte sequence for one value: what every digest and key is computed from."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import TypeAlias

Json: TypeAlias = None | bool | int | float | str | Sequence["Json"] | Mapping[str, "Json"]

DIGEST_PREFIX = "sha256:"


def canonical_json(value: Json) -> bytes:
    """UTF-8 JSON with sorted keys, no spaces, no NaN: equal values give equal bytes.

    Raises `ValueError` for NaN and infinities, which are not JSON.
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode()


def digest_bytes(data: bytes | bytearray | memoryview) -> str:
    """`sha256:<64 hex digits>` of `data`."""
    return DIGEST_PREFIX + hashlib.sha256(data).hexdigest()


def digest_json(value: Json) -> str:
    """Digest of the canonical form of `value`."""
    return digest_bytes(canonical_json(value))
