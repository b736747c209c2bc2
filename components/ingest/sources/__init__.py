"""Where images come from: a folder, a list, an archive, a bucket."""

from pathlib import Path

from components.common.errors import InputError
from components.ingest.config import IngestConfig
from components.ingest.sources.base import Source
from components.ingest.sources.folder import FolderSource

__all__ = ["Source", "open_source"]

EXPECTED = "a folder, a .csv list, a tar or zip archive, or s3://bucket/prefix"


def open_source(config: IngestConfig) -> Source:
    """The source that the settings name. Raises `InputError` where there is none of that name or kind."""
    url = config.source
    if url is None or not url.strip():
        raise InputError(
            "no source of images is given",
            expected=EXPECTED,
            todo="say where the images are: --source DIR (or ingest.source in the config)",
        )
    path = Path(url.removeprefix("file://")).expanduser()
    if not path.exists():
        raise InputError(
            "there is no such source", where=url, expected=EXPECTED, todo="check the path given as the source"
        )
    return FolderSource(str(path))
