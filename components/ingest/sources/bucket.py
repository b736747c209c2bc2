"""Images below `s3://bucket/prefix`."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from components.common.store.base import NotFoundError
from components.common.store.s3 import S3Store
from components.common.store.settings import StoreSettings
from components.ingest.sources.base import (
    ChangedError,
    Entry,
    Listing,
    fingerprint_entries,
    printable,
    why_ignored,
)


class _ForeignBucket(S3Store):
    """A bucket that others fill: any name is taken as it is, and nothing is written."""

    def __reduce__(self) -> tuple[object, ...]:
        return _ForeignBucket, (self.url, self.settings)

    def _name(self, key: str) -> str:
        return self._base + key

    def objects(self) -> Iterator[tuple[str, int, str]]:
        """(name below the prefix, size in bytes, ETag), page by page."""
        more: dict[str, str] = {}
        while True:
            request = partial(self._client.list_objects_v2, Bucket=self.bucket, Prefix=self._base, **more)
            page: dict[str, Any] = self._call(request, "", "list")
            for item in page.get("Contents", ()):
                yield item["Key"].removeprefix(self._base), int(item["Size"]), str(item["ETag"]).strip('"')
            if not page.get("IsTruncated"):
                return
            more = {"ContinuationToken": page["NextContinuationToken"]}


class BucketSource:
    """Objects as files: `prefix/<class>/<image>`."""

    parallel_reads = 8

    def __init__(self, url: str, settings: StoreSettings | None) -> None:
        self._bucket = _ForeignBucket(url, settings)
        self._listing: Listing | None = None

    def __reduce__(self) -> tuple[object, ...]:
        return BucketSource, (self._bucket.url, self._bucket.settings)

    def fingerprint(self) -> str:
        self._listing = self._list()
        return fingerprint_entries(self._listing.entries)

    def list(self, scratch: Path) -> Listing:
        return self._listing or self._list()

    def _list(self) -> Listing:
        listing = Listing([])
        for key, size, etag in self._bucket.objects():
            if not key or key.endswith("/"):  # some tools write empty objects as folders
                continue
            why = why_ignored(key)
            if why is not None:
                listing.ignored[why] = listing.ignored.get(why, 0) + 1
            else:
                listing.entries.append(Entry(printable(key), size, etag, key))
        listing.entries.sort(key=lambda entry: entry.name)
        return listing

    def read(self, entry: Entry, limit: int) -> bytes:
        try:
            data, etag = self._bucket.read(entry.locator)
        except NotFoundError:
            raise ChangedError("it has vanished") from None
        if etag.strip('"') != entry.stamp or len(data) != entry.size_bytes:
            raise ChangedError("it was replaced since it was listed")
        return data
