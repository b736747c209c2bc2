"""The object store: one small interface, in a folder or on any S3 server."""

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from components.common.errors import InputError
from components.common.store.base import Store
from components.common.store.file import FileStore
from components.common.store.settings import StoreSettings

__all__ = ["Store", "StoreSettings", "open_store"]

SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):/")


def open_store(url: str, settings: StoreSettings | None = None) -> Store:
    """The store at `url`: a path, `file:///path`, or `s3://bucket/prefix`.

    Nothing is read or written yet, and a folder that is missing is made by the first write. Raises `InputError` for
    any other URL. Settings left out of `settings` come from the environment (`CONVEYOR_S3_ENDPOINT`, ...).
    """
    scheme = SCHEME.match(url)
    if not url.strip():
        raise InputError("the store's URL is empty", expected=_EXPECTED)
    if scheme is None:
        return FileStore(Path(url).expanduser())
    parts = urlsplit(url)
    if parts.scheme == "file":
        if parts.netloc not in ("", "localhost"):
            raise InputError(
                "a file URL names a host",
                where=url,
                expected="file:///path, with three slashes",
                todo=f"did you mean file:///{parts.netloc}{parts.path}?",
            )
        return FileStore(Path(unquote(parts.path)))
    if parts.scheme == "s3" and url.startswith("s3://"):
        # boto3 takes a third of a second to import, which a file store need not wait for.
        from components.common.store.s3 import S3Store

        return S3Store(url, settings)
    raise InputError("this store's URL cannot be used", where=url, expected=_EXPECTED)


_EXPECTED = "a folder, file:///path, or s3://bucket/prefix"
