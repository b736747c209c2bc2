"""Images in a bucket: any names, the same snapshot as from a folder, and what others write meanwhile."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from components.common.errors import ConveyorError
from components.common.store import StoreSettings, open_store
from components.common.store.s3_client import make_client
from components.ingest.sources.base import ChangedError
from components.ingest.sources.bucket import BucketSource
from support.images import make_image_folder
from support.s3_servers import S3Server

pytestmark = pytest.mark.integration


def upload(server: S3Server, bucket: str, folder: Path, prefix: str) -> Any:
    client = make_client(StoreSettings(endpoint=server.endpoint))
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            client.put_object(
                Bucket=bucket, Key=prefix + str(path.relative_to(folder)), Body=path.read_bytes()
            )
    return client


def test_a_bucket_gives_the_snapshot_of_the_folder(
    tmp_path: Path,
    s3_server: S3Server,
    s3_store_url: str,
    ingest: Callable[..., Any],
    rows: Callable[..., Any],
) -> None:
    folder = make_image_folder(tmp_path / "photos")
    (folder / "class_0" / "0000.jpg").rename(folder / "class_0" / "ünter wegs (1).jpg")
    bucket = s3_server.make_bucket()
    client = upload(s3_server, bucket, folder, "some/photos/")
    client.put_object(Bucket=bucket, Key="some/photos/class_0/", Body=b"")
    client.put_object(Bucket=bucket, Key="some/photos-of-others/class_9/1.jpg", Body=b"not ours")
    local = ingest(folder).output
    store = open_store(s3_store_url)
    first = ingest(f"s3://{bucket}/some/photos", into=store)
    assert first.output == local
    assert ingest(f"s3://{bucket}/some/photos", into=store).state == "reused"
    client.delete_object(Bucket=bucket, Key="some/photos/class_1/0001.jpg")
    second = ingest(f"s3://{bucket}/some/photos", into=store)
    assert second.output.num_accepted == first.output.num_accepted - 1
    assert second.measurements["images_read"] == 0


def test_an_object_that_was_replaced_is_noticed(tmp_path: Path, s3_server: S3Server) -> None:
    bucket = s3_server.make_bucket()
    client = upload(s3_server, bucket, make_image_folder(tmp_path / "x", per_class=1), "")
    source = BucketSource(f"s3://{bucket}", None)
    one, two, three = source.list(tmp_path).entries
    client.put_object(Bucket=bucket, Key=one.name, Body=b"something else")
    client.delete_object(Bucket=bucket, Key=two.name)
    for entry in (one, two):
        with pytest.raises(ChangedError):
            source.read(entry, 1 << 20)
    assert source.read(three, 1 << 20)


def test_a_missing_bucket_is_one_clear_error(s3_server: S3Server, ingest: Callable[..., Any]) -> None:
    with pytest.raises(ConveyorError) as caught:
        ingest("s3://conveyor-no-such-bucket/photos")
    assert "bucket" in str(caught.value)
