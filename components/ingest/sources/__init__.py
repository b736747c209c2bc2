"""Where images come from: a folder, a list, an archive, a bucket."""

from pathlib import Path

from components.common.errors import InputError
from components.common.store.base import Store
from components.ingest.config import IngestConfig
from components.ingest.sources.archive import ArchiveSource, is_archive
from components.ingest.sources.base import Source
from components.ingest.sources.folder import FolderSource
from components.ingest.sources.table import TableSource

__all__ = ["Source", "open_source"]

EXPECTED = "a folder, a .csv list, a tar or zip archive, or s3://bucket/prefix"


def open_source(config: IngestConfig, store: Store | None = None) -> Source:
    """The source that the settings name. A bucket is reached as `store` is, where that is a bucket too.

    Raises `InputError` where there is none of that name or kind.
    """
    url = config.source
    if url is None or not url.strip():
        raise InputError(
            "no source of images is given",
            expected=EXPECTED,
            todo="say where the images are: --source DIR (or ingest.source in the config)",
        )
    if url.startswith("s3://"):
        from components.ingest.sources.bucket import BucketSource  # boto3 takes a third of a second to import

        return BucketSource(url, getattr(store, "settings", None))
    if "://" in url and not url.startswith("file://"):
        raise InputError("this kind of source is not known", where=url, expected=EXPECTED)
    path = Path(url.removeprefix("file://")).expanduser()
    try:
        if path.is_dir():
            return FolderSource(str(path))
        if path.is_file() and is_archive(path):
            return ArchiveSource(str(path), config.archive)
        if path.is_file() and path.suffix.lower() in {".csv", ".tsv"}:
            return TableSource(str(path), config.path_column, config.label_column)
    except OSError as error:
        raise InputError(
            "the source cannot be read",
            where=url,
            found=error.strerror or str(error),
            todo="make it readable",
        ) from None
    if path.exists():
        raise InputError("the source is a file of another kind", where=url, expected=EXPECTED)
    raise InputError(
        "there is no such source", where=url, expected=EXPECTED, todo="check the path given as the source"
    )
