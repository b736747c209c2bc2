"""Writing to S3: small objects in one request, large ones in parts, several at once."""

import base64
import hashlib
import io
import secrets
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from botocore.exceptions import ClientError

from components.common.canonical import DIGEST_PREFIX
from components.common.errors import InputError
from components.common.store.base import DigestMismatchError
from components.common.store.settings import StoreSettings

Call = Callable[[Callable[[], Any]], Any]
"""Runs one request, with retries and clear errors."""

MAX_PARTS = 9000
WRITER = "conveyor-writer"
"""Metadata entry that tells whose write an object is."""


def content_md5(data: bytes) -> str:
    """Value of the header with which the server checks what arrives; not for security."""
    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()


@contextmanager
def as_stream(source: bytes | Path | BinaryIO) -> Iterator[tuple[BinaryIO, int]]:
    """`source` as a stream and the number of bytes left in it. Raises `InputError` for an unreadable file."""
    if isinstance(source, bytes):
        yield io.BytesIO(source), len(source)
        return
    if isinstance(source, Path):
        try:
            file = source.open("rb")
        except OSError as error:
            raise InputError("a file to store cannot be read", where=str(source), found=str(error)) from error
        with file, as_stream(file) as pair:
            yield pair
        return
    start = source.tell()
    end = source.seek(0, io.SEEK_END)
    source.seek(start)
    yield source, end - start


class Uploader:
    """Writes streams to one bucket. `call` runs one request with retries and clear errors."""

    def __init__(self, client: Any, bucket: str, settings: StoreSettings, extra: dict[str, str]) -> None:
        self._client = client
        self._bucket = bucket
        self._settings = settings
        self._extra = extra

    def upload(self, key: str, stream: BinaryIO, size: int, digest: str | None, call: Call) -> None:
        """Write the `size` bytes of `stream`; nothing becomes visible where they do not fit `digest`."""
        part_size = self._settings.part_size_mib << 20
        if size > part_size:
            # Parts grow with the file, in whole MiB, so that their number stays within what S3 allows.
            part_size = max(part_size, (-(-size // MAX_PARTS) + 0xFFFFF) >> 20 << 20)
            self._upload_parts(key, stream, part_size, digest, call)
            return
        data = stream.read()
        if digest is not None:
            _check(DIGEST_PREFIX + hashlib.sha256(data).hexdigest(), digest, key)
        call(
            lambda: self._client.put_object(
                Bucket=self._bucket, Key=key, Body=data, ContentMD5=content_md5(data), **self._extra
            )
        )

    def _upload_parts(
        self, key: str, stream: BinaryIO, part_size: int, digest: str | None, call: Call
    ) -> None:
        target = {"Bucket": self._bucket, "Key": key}
        writer = secrets.token_hex(16)
        started = call(
            lambda: self._client.create_multipart_upload(**target, Metadata={WRITER: writer}, **self._extra)
        )
        upload = {**target, "UploadId": started["UploadId"]}
        try:
            parts, found = self._send(upload, stream, part_size, call)
            if digest is not None:
                _check(found, digest, key)
            call(lambda: self._complete(upload, parts, writer))
        except BaseException:
            # What is left after a kill costs space until 'conveyor gc' removes it, but nobody ever sees it.
            with suppress(Exception):
                self._client.abort_multipart_upload(**upload)
            raise

    def _send(
        self, upload: dict[str, str], stream: BinaryIO, part_size: int, call: Call
    ) -> tuple[list[dict[str, Any]], str]:
        """Send all parts, `max_concurrency` at once; returns their list and the digest of the whole."""
        hasher = hashlib.sha256()
        waiting: deque[Future[dict[str, Any]]] = deque()
        parts = []

        def send(number: int, data: bytes) -> dict[str, Any]:
            answer = call(
                lambda: self._client.upload_part(
                    **upload, PartNumber=number, Body=data, ContentMD5=content_md5(data)
                )
            )
            return {"PartNumber": number, "ETag": answer["ETag"]}

        with ThreadPoolExecutor(self._settings.max_concurrency, thread_name_prefix="upload") as pool:
            try:
                number = 0
                while data := stream.read(part_size):
                    number += 1
                    hasher.update(data)
                    waiting.append(pool.submit(send, number, data))
                    if len(waiting) >= self._settings.max_concurrency:
                        parts.append(waiting.popleft().result())
                parts.extend(future.result() for future in waiting)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        return parts, DIGEST_PREFIX + hasher.hexdigest()

    def _complete(self, upload: dict[str, str], parts: list[dict[str, Any]], writer: str) -> None:
        try:
            self._client.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") != "NoSuchUpload":
                raise
            # Perhaps an earlier try was carried out and only its answer was lost.
            head = self._client.head_object(Bucket=upload["Bucket"], Key=upload["Key"])
            if head["Metadata"].get(WRITER) != writer:
                raise


def _check(found: str, expected: str, key: str) -> None:
    if found != expected:
        raise DigestMismatchError(
            "the bytes to store do not fit their digest", where=key, expected=expected, found=found
        )
