"""What a user can get wrong: one clear error, the right exit status, nothing half-written, and a rerun goes on."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image

from support.images import make_image_folder
from support.s3_servers import S3Server
from support.small_pipeline import Ended, conveyor, write_config

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_image_folder(
        tmp_path_factory.mktemp("data") / "images", classes=3, per_class=12, size=(16, 16), fmt="png"
    )


@pytest.fixture
def place(tmp_path: Path, images: Path) -> Path:
    """A folder with a config beside some images."""
    (tmp_path / "images").symlink_to(images)
    write_config(tmp_path / "small.yaml")
    return tmp_path


def run(place: Path, *arguments: str, **env: str) -> Ended:
    """The first step, of `images` unless the arguments say otherwise."""
    return conveyor(
        "run", "-f", "small.yaml", "--source", "images", "--until", "ingest", *arguments, cwd=place, env=env
    )


def check_refusal(ended: Ended, status: int, *words: str) -> None:
    """One error, said once, for a person."""
    assert ended.status == status, ended.err
    assert ended.err.count("error: ") == 1, ended.err
    assert "Traceback" not in ended.err
    for word in words:
        assert word in ended.err


def check_goes_on(place: Path, *arguments: str) -> None:
    """The store is whole, and the same with right input works."""
    ended = run(place, *arguments)
    assert ended.status == 0, ended.err
    verified = conveyor("verify", "--store", ".conveyor/store", cwd=place)
    assert verified.status == 0, verified.err


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "train:\n  epoch: 3\n",
            ["bad.yaml:2:3", "unknown setting train.epoch", "did you mean train.epochs?"],
        ),
        ("trian:\n  epochs: 3\n", ["bad.yaml:1:1", "did you mean train?"]),
        ("train:\n  epochs: many\n", ["bad.yaml:2:3", "train.epochs", "integer", "'many'"]),
        (
            "ingest:\n  split: {train: 0.8, val: 0.3, test: 0.1}\n",
            ["bad.yaml:2:3", "ingest.split", "add up to 1"],
        ),
        ("ingest:\n  split: {train: 1.0, val: 0.0, test: 0.0}\n", ["bad.yaml:2:", "ingest.split.", "than"]),
        ("train:\n  model: resnet81\n", ["bad.yaml:2:3", "train.model", "resnet18"]),
        ("train:\n  epochs: [3\n", ["bad.yaml:", "not valid YAML"]),
    ],
)
def test_wrong_config(place: Path, text: str, words: list[str]) -> None:
    (place / "bad.yaml").write_text(text)
    ended = conveyor("run", "-f", "bad.yaml", "--source", "images", cwd=place)
    check_refusal(ended, 2, *words)
    assert not (place / ".conveyor").exists()


def test_wrong_setting_on_the_command_line(place: Path) -> None:
    check_refusal(
        run(place, "--set", "train.epochs=0"), 2, "--set train.epochs=0", "greater than or equal to 1"
    )
    assert not (place / ".conveyor").exists()


# ---------------------------------------------------------------------------------------------------------- sources


def only_text(folder: Path) -> None:
    (folder / "a").mkdir(parents=True)
    (folder / "a" / "readme.txt").write_text("no image")


def one_class(folder: Path) -> None:
    make_image_folder(folder, classes=1, per_class=12, size=(16, 16), fmt="png")


def nothing_readable(folder: Path) -> None:
    for name in ("a", "b"):
        (folder / name).mkdir(parents=True)
        for number in range(5):
            (folder / name / f"{number}.png").write_bytes(b"not an image %d" % number)


SOURCES: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda folder: None, "source"),
    "empty": (lambda folder: folder.mkdir(), "no images"),
    "only text": (only_text, "no images"),
    "one class": (one_class, "class"),
    "nothing readable": (nothing_readable, "not an image"),
}


def test_wrong_sources(place: Path) -> None:
    for name, (make, words) in SOURCES.items():
        make(place / name)
        check_refusal(run(place, "--source", name), 2, words)
    check_goes_on(place)


def test_no_source_at_all(place: Path) -> None:
    ended = conveyor("run", "-f", "small.yaml", cwd=place)
    check_refusal(ended, 2, "source")


def test_a_troublesome_folder_is_data(place: Path) -> None:
    """What cannot be used is set aside with its reason, and the rest goes through."""
    folder = place / "odd"
    make_image_folder(folder, classes=3, per_class=20, size=(16, 16), fmt="png")
    (folder / "class_0" / "empty.png").write_bytes(b"")
    shutil.copy(folder / "class_0" / "0001.png", folder / "class_0" / "really_a_png.jpg")
    (folder / "class_1" / "loop").symlink_to(folder)
    os.link(folder / "class_1" / "0003.png", os.fsencode(folder / "class_1") + b"/caf\xe9.png")
    Image.new("L", (1, 1)).save(folder / "class_2" / "dot.png")
    ended = run(place, "--source", "odd", "--json")
    assert ended.status == 0, ended.err
    counts = ended.json()["ingest"]
    assert counts["accepted"] >= 58
    assert counts["quarantined"] >= 2
    assert sum(counts["reasons"].values()) == counts["quarantined"]
    assert "Traceback" not in ended.err


# ----------------------------------------------------------------------------------------------------------- stores


def test_wrong_store_urls(place: Path) -> None:
    for url in ("ftp://host/path", "s3:/bucket", "file://host/path", "s3://", "s3://UPPER_case!/x", ""):
        check_refusal(run(place, "--store", url), 2)
    check_goes_on(place)


def test_missing_bucket(place: Path, s3_server: S3Server) -> None:
    ended = run(place, "--store", "s3://conveyor-no-such-bucket-here/x")
    assert ended.status in {2, 3}
    check_refusal(ended, ended.status, "bucket", "conveyor-no-such-bucket-here")


def test_wrong_secret(place: Path, s3_server: S3Server, s3_store_url: str) -> None:
    if s3_server.name == "moto":
        pytest.skip("moto accepts any secret")
    ended = run(place, "--store", s3_store_url, AWS_SECRET_ACCESS_KEY="no-such-secret")
    assert ended.status in {2, 3}
    check_refusal(ended, ended.status, "to do:")
    assert "no-such-secret" not in ended.err
    ended = run(place, "--store", s3_store_url)
    assert ended.status == 0, ended.err


def test_no_credentials(place: Path, s3_server: S3Server, s3_store_url: str) -> None:
    ended = run(place, "--store", s3_store_url, AWS_ACCESS_KEY_ID="", AWS_SECRET_ACCESS_KEY="")
    assert ended.status in {2, 3}
    check_refusal(ended, ended.status, "redential")


def test_unreachable_store(place: Path) -> None:
    ended = run(
        place,
        *(
            "--store",
            "s3://bucket/x",
            "--set",
            "store.endpoint=http://127.0.0.1:9",
            "--set",
            "store.max_attempts=2",
        ),
        AWS_ACCESS_KEY_ID="a",
        AWS_SECRET_ACCESS_KEY="b",
        NO_PROXY="127.0.0.1",
    )
    check_refusal(ended, 3, "127.0.0.1:9")


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Mounts a small tmpfs; skips, loudly, where that is not permitted."""
    mounted: list[Path] = []

    def attach(options: str) -> Path:
        folder = tmp_path / f"disk-{len(mounted)}"
        folder.mkdir()
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            pytest.skip(
                f"DISK FULL AND READ-ONLY ARE NOT TESTED: mounting a tmpfs is not permitted ({done.stderr})"
            )
        mounted.append(folder)
        return folder

    yield attach
    for folder in mounted:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_disk_full(place: Path, mount: Callable[..., Path]) -> None:
    disk = mount("size=128k")
    store = str(disk / "store")
    ended = run(place, "--until", "preprocess", "--store", store)
    check_refusal(ended, 3, "full", "to do:")
    subprocess.run(["mount", "-o", "remount,size=16m", str(disk)], check=True)
    assert conveyor("verify", "--store", store, cwd=place).status == 0
    ended = run(place, "--until", "preprocess", "--store", store)
    assert ended.status == 0, ended.err
    assert conveyor("verify", "--store", store, cwd=place).status == 0


def test_scratch_disk_full(place: Path, mount: Callable[..., Path]) -> None:
    disk = mount("size=16k")
    check_refusal(run(place, "--until", "preprocess", TMPDIR=str(disk)), 3, "full")
    assert list(disk.iterdir()) == []
    check_goes_on(place, "--until", "preprocess")


def test_read_only_store(place: Path, mount: Callable[..., Path]) -> None:
    disk = mount("size=1m,ro")
    ended = run(place, "--store", str(disk / "store"))
    assert ended.status in {2, 3}
    check_refusal(ended, ended.status, "read-only", "to do:")


def test_a_store_that_is_a_file(place: Path) -> None:
    (place / "file").write_text("hello")
    ended = run(place, "--store", "file")
    assert ended.status in {2, 3}
    check_refusal(ended, ended.status, "file")
