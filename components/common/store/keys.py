"""Object names: what a store accepts as a key, so that no key can leave the store or mean two objects."""

import re

from components.common.errors import StoreError

SEGMENT = re.compile(r"[A-Za-z0-9_=-][A-Za-z0-9._=-]*")
PREFIX = re.compile(r"([A-Za-z0-9_=-][A-Za-z0-9._=-]*/)*([A-Za-z0-9_=-][A-Za-z0-9._=-]*)?")
MAX_SEGMENT = 255
MAX_KEY = 900
"""S3 allows 1024 bytes, of which a store's own prefix takes some."""


def check_key(key: str) -> str:
    """Return `key` where it is a valid object name; raises `StoreError` otherwise.

    A segment never begins with a dot: such names are the file store's own (temporary files, its lock).
    """
    segments = key.split("/")
    if len(key) > MAX_KEY or any(len(s) > MAX_SEGMENT or not SEGMENT.fullmatch(s) for s in segments):
        raise StoreError(
            "this is not a valid object name",
            expected="segments of A-Z a-z 0-9 . _ = - joined by '/', none empty, none beginning with '.'",
            found=repr(key[:200]),
        )
    return key


def check_prefix(prefix: str) -> str:
    """Return `prefix` where a valid key can begin with it; raises `StoreError` otherwise."""
    if len(prefix) > MAX_KEY or not PREFIX.fullmatch(prefix):
        raise StoreError(
            "this is not a valid beginning of object names",
            expected="whole segments joined by '/', the last one may be cut off",
            found=repr(prefix[:200]),
        )
    return prefix
