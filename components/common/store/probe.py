"""Does a store keep its promises? Conditional writes are what everything published once rests on."""

import secrets

from components.common.canonical import canonical_json, digest_json
from components.common.errors import StoreError
from components.common.store.base import NotFoundError, Store

PREFIX = "probes"


def probe(store: Store) -> None:
    """Write, read and remove a small object; both conditional writes must hold.

    Raises `StoreError` with the cure where the store ignores one, and what the store itself raises where it cannot be
    reached or written.
    """
    key = f"{PREFIX}/{secrets.token_hex(8)}"
    # A server that does not answer has nothing to remove, and to ask it for that would take as long again.
    if not store.create(key, b"1"):
        raise ignores(store.url, "If-None-Match: *", "a new object could not be created")
    try:
        if store.create(key, b"2"):
            raise ignores(store.url, "If-None-Match: *", "an existing object was created again")
        data, tag = store.read(key)
        if data != b"1":
            raise ignores(store.url, "If-None-Match: *", "a refused write changed the object")
        if not store.swap(key, b"3", tag=tag):
            raise ignores(store.url, "If-Match", "a swap with the right tag was refused")
        if store.swap(key, b"4", tag=tag) or store.read(key)[0] != b"3":
            raise ignores(store.url, "If-Match", "a swap with an outdated tag went through")
    finally:
        store.delete(key)


def probe_once(store: Store, *, identity: str) -> None:
    """Probe unless an earlier process did and noted it in the store. `identity` is the server: a bucket that moved to
    another one is probed again."""
    note = canonical_json({"version": 1, "server": identity, "conditional_writes": True})
    key = f"{PREFIX}/{digest_json(identity).removeprefix('sha256:')[:16]}.json"
    try:
        if store.read(key)[0] == note:
            return
    except NotFoundError:
        pass
    probe(store)
    store.put(key, note)


def ignores(url: str, header: str, found: str) -> StoreError:
    """The error for a store that cannot be used, since it does not honour a conditional header."""
    return StoreError(
        f"this store does not honour the conditional header {header}",
        where=url,
        found=found,
        expected="a server that supports conditional writes: AWS S3, MinIO, versitygw, Ceph 19 or newer",
        todo="upgrade the server or choose another one; without this two runs would overwrite each other's results",
    )
