"""Does a store keep its promises? Conditional writes are what everything published once rests on."""

import secrets

from components.common.errors import StoreError
from components.common.store.base import Store

PREFIX = "probes"


def probe(store: Store) -> None:
    """Write, read and remove a small object; both conditional writes must hold.

    Raises `StoreError` with the cure where the store ignores one, and what the store itself raises where it cannot be
    reached or written.
    """
    key = f"{PREFIX}/{secrets.token_hex(8)}"
    try:
        if not store.create(key, b"1"):
            raise _ignored(store, "If-None-Match: *", "a new object could not be created")
        if store.create(key, b"2"):
            raise _ignored(store, "If-None-Match: *", "an existing object was created again")
        data, tag = store.read(key)
        if data != b"1":
            raise _ignored(store, "If-None-Match: *", "a refused write changed the object")
        if not store.swap(key, b"3", tag=tag):
            raise _ignored(store, "If-Match", "a swap with the right tag was refused")
        if store.swap(key, b"4", tag=tag) or store.read(key)[0] != b"3":
            raise _ignored(store, "If-Match", "a swap with an outdated tag went through")
    finally:
        store.delete(key)


def _ignored(store: Store, header: str, found: str) -> StoreError:
    return StoreError(
        f"this store does not honour the conditional header {header}",
        where=store.url,
        found=found,
        expected="a server that supports conditional writes: AWS S3, MinIO, versitygw, Ceph 19 or newer",
        todo="upgrade the server or choose another one; without this two runs would overwrite each other's results",
    )
