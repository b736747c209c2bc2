from pathlib import Path

import pytest

from components.common.errors import InputError
from components.common.store import open_store
from components.common.store.file import FileStore
from components.common.store.s3 import S3Store


def test_paths_and_file_urls_are_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for url in (
        str(tmp_path / "a b"),
        (tmp_path / "a b").as_uri(),
        f"file://localhost{tmp_path}/a%20b",
        "a b",
    ):
        store = open_store(url)
        assert isinstance(store, FileStore)
        assert store.root == tmp_path / "a b"
        assert store.url == (tmp_path / "a b").as_uri()
    assert list(tmp_path.iterdir()) == []  # opening makes nothing


def test_s3_urls() -> None:
    store = open_store("s3://bucket/some/prefix/")
    assert isinstance(store, S3Store)
    assert (store.bucket, store.url) == ("bucket", "s3://bucket/some/prefix")
    assert open_store("s3://bucket").url == "s3://bucket"


@pytest.mark.parametrize(
    ("url", "hint"),
    [
        ("", "a folder"),
        ("gs://bucket/prefix", "s3://bucket"),
        ("http://host/path", "s3://bucket"),
        ("s3:/bucket", "s3://bucket"),
        ("s3://", "s3://bucket"),
        ("s3:///prefix", "s3://bucket"),
        ("s3://Bucket", "3 to 63"),
        ("s3://key:secret@bucket", "3 to 63"),
        ("file://folder/store", "file:///folder/store"),
    ],
)
def test_other_urls_are_refused_with_a_hint(url: str, hint: str) -> None:
    with pytest.raises(InputError) as caught:
        open_store(url)
    assert hint in str(caught.value)
    assert caught.value.exit_code == 2
