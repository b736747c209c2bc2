"""Reading an S3 object as a stream that goes on where a broken connection left it."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

from botocore.exceptions import IncompleteReadError

from components.common.errors import StoreError
from components.common.store.retry import is_transient
from components.common.store.streams import CHUNK_BYTES

Get = Callable[[int, int | None], dict[str, Any]]
"""Offset and end (exclusive; None: the object's end) → boto3's answer to `get_object`."""


@dataclass(frozen=True, slots=True)
class BodyCalls:
    """How a body gets its bytes: `get` asks once, `call` repeats what failed for a while."""

    get: Get
    call: Callable[[Callable[[], bytes]], bytes]
    where: str


class ResumingBody(io.RawIOBase):
    """Bytes `offset` to `end` of an object; asks for the rest anew where the body resets, stalls or is truncated."""

    def __init__(self, calls: BodyCalls, answer: dict[str, Any], *, offset: int, end: int) -> None:
        self.etag = str(answer["ETag"])
        self._calls = calls
        self._body: Any = answer["Body"]
        self._position = offset
        self._end = end

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(cast(bytearray, buffer)).cast("B")
        wanted = min(len(view), self._end - self._position)
        if wanted <= 0:
            return 0
        data = self._calls.call(lambda: self._some(wanted))
        view[: len(data)] = data
        self._position += len(data)
        return len(data)

    def _some(self, wanted: int) -> bytes:
        if self._body is None:
            self._reopen()
        try:
            data: bytes = self._body.read(wanted)
            if not data:
                raise IncompleteReadError(actual_bytes=self._position, expected_bytes=self._end)
        except Exception as error:
            if is_transient(error):
                self._drop()
            raise
        return data

    def _reopen(self) -> None:
        answer = self._calls.get(self._position, self._end)
        if answer["ETag"] != self.etag:
            answer["Body"].close()
            raise StoreError(
                "an object was replaced while it was being read",
                where=self._calls.where,
                todo="run again to read the new one",
            )
        self._body = answer["Body"]

    def _drop(self) -> None:
        if self._body is not None:
            self._body.close()
            self._body = None

    def close(self) -> None:
        if not self.closed:
            self._drop()
        super().close()


def buffered(body: ResumingBody) -> BinaryIO:
    """A reader with the usual methods on top."""
    return cast(BinaryIO, io.BufferedReader(body, CHUNK_BYTES))
