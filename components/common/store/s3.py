"""The store in an S3 bucket: plain S3 calls, any server that honours conditional writes."""

import io
import os
import re
import secrets
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from botocore.exceptions import BotoCoreError, ClientError
from urllib3.exceptions import HTTPError

from components.common.errors import ConveyorError, InputError
from components.common.store.base import NotFoundError, ObjectInfo, Store
from components.common.store.keys import check_key, check_prefix
from components.common.store.probe import ignores, probe, probe_once
from components.common.store.retry import Backoff, retry
from components.common.store.s3_client import make_client
from components.common.store.s3_errors import code_of, status_of, translate
from components.common.store.s3_read import BodyCalls, ResumingBody, buffered
from components.common.store.s3_write import WRITER, Uploader, as_stream, content_md5
from components.common.store.settings import StoreSettings
from components.common.store.streams import out_of_range

T = TypeVar("T")

URL = re.compile(r"s3://([a-z0-9][a-z0-9._-]{1,61}[a-z0-9])(?:/(.*))?")
HURRIED = Backoff(max_attempts=5, base_s=0.5)
"""Until the server has answered once, if only by an error: a wrong endpoint should not take minutes to be told."""
MAX_COPY_BYTES = 5 << 30


class S3Store(Store):
    """Objects below `s3://bucket/prefix`. Safe in threads, after a fork and across pickling."""

    def __init__(self, url: str, settings: StoreSettings | None = None) -> None:
        match = URL.fullmatch(url.rstrip("/"))
        if match is None:
            raise InputError(
                "this is not an S3 URL that can be used",
                where=url,
                expected="s3://bucket/prefix, the bucket of 3 to 63 of a-z 0-9 . - and the prefix optional",
            )
        self.bucket: str = match[1]
        prefix = match[2] or ""
        self._base = f"{check_key(prefix)}/" if prefix else ""
        self.url = f"s3://{self.bucket}/{prefix}".rstrip("/")
        self.settings = (settings or StoreSettings()).completed()
        self._backoff = Backoff(self.settings.max_attempts)
        self._probing = threading.RLock()
        self._client_of: tuple[int, Any] | None = None
        self._reached = False
        self._probed = False
        self._is_probing = False
        self._bucket_seen = False
        self._bare_etags = False
        self._extra: dict[str, str] = {}
        if self.settings.server_side_encryption:
            self._extra["ServerSideEncryption"] = self.settings.server_side_encryption
        if self.settings.kms_key_id:
            self._extra["SSEKMSKeyId"] = self.settings.kms_key_id

    def __reduce__(self) -> tuple[object, ...]:
        return S3Store, (self.url, self.settings)

    @property
    def endpoint(self) -> str:
        """URL of the server."""
        return str(self._client.meta.endpoint_url)

    # -- the interface ---------------------------------------------------------------------------------------------

    def put(self, key: str, source: bytes | Path | BinaryIO, *, digest: str | None = None) -> None:
        name = self._name(key)
        self._ready()
        uploader = Uploader(self._client, self.bucket, self.settings, self._extra)
        with as_stream(source) as (stream, size):
            uploader.upload(name, stream, size, digest, lambda action: self._call(action, key, "write"))

    def open(
        self, key: str, *, offset: int = 0, length: int | None = None
    ) -> AbstractContextManager[BinaryIO]:
        return self._open(key, offset, length)

    @contextmanager
    def _open(self, key: str, offset: int, length: int | None) -> Iterator[BinaryIO]:
        body = self._body(key, offset, length)
        if body is None:
            yield io.BytesIO()
            return
        with body, buffered(body) as stream:
            yield stream

    def read(self, key: str) -> tuple[bytes, str]:
        body = self._body(key, 0, None)
        assert body is not None, "only an empty range has no body"
        with body, buffered(body) as stream:
            return stream.read(), body.etag

    def create(self, key: str, data: bytes) -> bool:
        self._ready()
        return self._conditional_put(key, data, {"IfNoneMatch": "*"})

    def swap(self, key: str, data: bytes, *, tag: str | None) -> bool:
        if tag is None:
            return self.create(key, data)
        self._ready()
        if self._conditional_put(key, data, {"IfMatch": tag.strip('"') if self._bare_etags else tag}):
            return True
        if self._bare_etags:
            return False
        # Ceph compares the header with its quotes to an ETag without. Where the tag still stands, that is the cause.
        head = self._head(key)
        if head is None or head["ETag"] != tag:
            return False
        self._bare_etags = self._conditional_put(key, data, {"IfMatch": tag.strip('"')})
        return self._bare_etags

    def stat(self, key: str) -> ObjectInfo | None:
        head = self._head(key)
        if head is None:
            return None
        return ObjectInfo(key, int(head["ContentLength"]), head["LastModified"].timestamp())

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        where = {"Bucket": self.bucket, "Prefix": self._base + check_prefix(prefix)}
        more: dict[str, str] = {}
        while True:
            page = self._call(partial(self._client.list_objects_v2, **where, **more), prefix, "list")
            for item in page.get("Contents", ()):
                key = item["Key"].removeprefix(self._base)
                # Some tools write empty objects as folders; they are none of ours.
                if key and not key.endswith("/"):
                    yield ObjectInfo(key, int(item["Size"]), item["LastModified"].timestamp())
            if not page.get("IsTruncated"):
                return
            more = {"ContinuationToken": page["NextContinuationToken"]}

    def touch(self, key: str) -> bool:
        self._ready()
        before = self._head(key)
        if before is None:
            return False
        name = self._name(key)
        if before["ContentLength"] <= MAX_COPY_BYTES:
            copy = {
                "Bucket": self.bucket,
                "Key": name,
                "CopySource": {"Bucket": self.bucket, "Key": name},
                "MetadataDirective": "REPLACE",  # a copy onto itself must change something
                "Metadata": {**before["Metadata"], WRITER: secrets.token_hex(16)},
            }
            try:
                self._call(lambda: self._client.copy_object(**copy, **self._extra), key, "write")
            except NotFoundError:
                return False
            after = self._head(key)
            if after is None:
                return False
            if after["LastModified"] > before["LastModified"]:
                return True
        # A server whose copy keeps the old time, or an object too large for one copy.
        try:
            self._rewrite(key)
        except NotFoundError:
            return False
        return True

    def _rewrite(self, key: str) -> None:
        with tempfile.TemporaryFile() as file:
            with self.open(key) as stream:
                while chunk := stream.read(1 << 20):
                    file.write(chunk)
            file.seek(0)
            self.put(key, file)

    def delete(self, key: str) -> None:
        name = self._name(key)
        with suppress(NotFoundError):
            self._call(lambda: self._client.delete_object(Bucket=self.bucket, Key=name), key, "delete")

    def leftovers(self, before: float) -> Iterator[ObjectInfo]:
        markers: dict[str, str] = {}
        while True:
            request = partial(
                self._client.list_multipart_uploads, Bucket=self.bucket, Prefix=self._base, **markers
            )
            page = self._call(request, "", "list unfinished uploads")
            for item in page.get("Uploads", ()):
                started = item["Initiated"].timestamp()
                if started < before:
                    key = item["Key"].removeprefix(self._base)
                    yield ObjectInfo(f"{key}?uploadId={item['UploadId']}", 0, started)
            if not page.get("IsTruncated"):
                return
            markers = {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"]}

    def remove_leftover(self, info: ObjectInfo) -> None:
        key, _, upload = info.key.partition("?uploadId=")
        target = {"Bucket": self.bucket, "Key": self._name(key), "UploadId": upload}
        with suppress(NotFoundError):
            self._call(
                lambda: self._client.abort_multipart_upload(**target), key, "remove an unfinished upload"
            )

    def check(self) -> None:
        with self._probing:
            self._is_probing = True  # The probe writes, and must not start itself.
            try:
                probe(self)
                self._probed = True
            finally:
                self._is_probing = False

    # -- requests --------------------------------------------------------------------------------------------------

    def _ready(self) -> None:
        """Before the first write of this process: does the server honour what everything rests on?"""
        if self._probed:
            return
        with self._probing:
            if self._is_probing:
                return
            self._is_probing = True
            try:
                probe_once(self, identity=self.endpoint)
                self._probed = True
            finally:
                self._is_probing = False

    def _conditional_put(self, key: str, data: bytes, condition: dict[str, str]) -> bool:
        """One conditional write; False where its condition did not hold.

        A refusal may be the echo of an own try whose answer was lost, on the way or by a proxy that repeats requests:
        each write carries a token, and reading it back settles whose write stands.
        """
        writer = secrets.token_hex(16)
        target = {"Bucket": self.bucket, "Key": self._name(key), "Metadata": {WRITER: writer}, **self._extra}
        try:
            self._call(
                lambda: self._client.put_object(
                    **target, **condition, Body=data, ContentMD5=content_md5(data)
                ),
                key,
                "write",
                raw=(404, 412, 501),
            )
        except ClientError as error:
            status = status_of(error)
            if code_of(error) == "NoSuchBucket":
                raise self._translate(error, key, "write") from None
            if status == 501:
                raise ignores(self.url, " or ".join(condition), "501 Not Implemented") from error
            if status == 404:
                return False  # If-Match on an object that is gone.
            head = self._head(key)
            return head is not None and head["Metadata"].get(WRITER) == writer
        return True

    def _head(self, key: str) -> dict[str, Any] | None:
        name = self._name(key)
        try:
            head: dict[str, Any] = self._call(
                lambda: self._client.head_object(Bucket=self.bucket, Key=name), key, "read"
            )
            return head
        except NotFoundError:
            self._see_bucket()
            return None
        except InputError:
            self._see_bucket()  # Answers with a body, which tells a wrong secret from a missing right.
            raise

    def _see_bucket(self) -> None:
        """An answer without a body does not tell a missing object from a missing bucket; raises for the latter."""
        if not self._bucket_seen:
            self._call(
                lambda: self._client.list_objects_v2(Bucket=self.bucket, MaxKeys=1, Prefix=self._base),
                "",
                "list",
            )
            self._bucket_seen = True

    def _body(self, key: str, offset: int, length: int | None) -> ResumingBody | None:
        """The object's bytes from `offset` on; None for an empty range, which S3 does not know."""
        name = self._name(key)
        end = None if length is None else offset + length
        where = f"{self.url}/{key}"

        def get(start: int, stop: int | None) -> dict[str, Any]:
            ranged = {}
            if start or stop is not None:
                ranged["Range"] = f"bytes={start}-{'' if stop is None else stop - 1}"
            answer: dict[str, Any] = self._client.get_object(Bucket=self.bucket, Key=name, **ranged)
            return answer

        answer = None
        if offset >= 0 and length != 0 and (end is None or end > offset):
            try:
                answer = self._call(lambda: get(offset, end), key, "read", raw=(416,))
            except ClientError:
                answer = None  # The range does not lie within the object, unless it is empty.
        if answer is None:
            info = self.stat(key)
            if info is None:
                raise NotFoundError("there is no such object in the store", where=where)
            if offset < 0 or (length or 0) < 0 or (end or offset) > info.size_bytes:
                raise out_of_range(where, offset, length, info.size_bytes)
            return None
        found = answer.get("ContentRange")
        size = int(found.rpartition("/")[2]) if found else int(answer["ContentLength"])
        if end is not None and end > size:
            answer["Body"].close()
            raise out_of_range(where, offset, length, size)
        call = BodyCalls(get, lambda action: self._call(action, key, "read"), where)
        return ResumingBody(call, answer, offset=offset, end=size if end is None else end)

    def _call(self, action: Callable[[], T], key: str, doing: str, *, raw: tuple[int, ...] = ()) -> T:
        """Run one request with retries. Errors are translated, except answers whose HTTP status is in `raw`."""

        def tried() -> T:
            try:
                result = action()
            except ClientError:
                self._reached = True  # an answer, if not the one that was hoped for
                raise
            self._reached = True
            return result

        try:
            return retry(tried, lambda: self._backoff if self._reached else HURRIED)
        except (BotoCoreError, ClientError, HTTPError, OSError) as error:
            if status_of(error) in raw:
                raise
            raise self._translate(error, key, doing) from error

    def _translate(self, error: Exception, key: str, doing: str) -> ConveyorError:
        where = f"{self.url}/{key}".rstrip("/")
        return translate(error, where=where, bucket=self.bucket, endpoint=self.settings.endpoint, doing=doing)

    def _name(self, key: str) -> str:
        return self._base + check_key(key)

    @property
    def _client(self) -> Any:
        """The client of this process: connections must not be shared with a forked child."""
        pid = os.getpid()
        if self._client_of is None or self._client_of[0] != pid:
            try:
                self._client_of = (pid, make_client(self.settings))
            except (BotoCoreError, OSError, ValueError) as error:
                raise self._translate(error, "", "be set up") from error
        return self._client_of[1]
