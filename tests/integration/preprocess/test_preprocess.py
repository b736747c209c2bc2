"""preprocess as a whole: real packs in, real shards out, the same bytes however they were made."""

import io
import json
import os
import signal
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from components.common.blobs import Blobs
from components.common.errors import ConveyorError, InputError, StepError, StoreError
from components.common.refs import ShardsRef
from components.common.store import open_store
from components.common.trees import Tree
from components.data.index import read_index
from components.preprocess.config import PreprocessConfig
from support.datasets import encode, make_items, make_shards, make_snapshot, preprocess_snapshot
from support.images import synthetic_image
from support.snapshots import Item


def entry(shards: ShardsRef, blobs: Blobs, name: str) -> bytes:
    return blobs.read(Tree.read(blobs, shards.tree)[name].digest)


def webdataset_samples(data: bytes) -> list[dict[str, bytes]]:
    """WebDataset's own rule: consecutive members whose names agree up to the first dot are one sample."""
    samples: list[dict[str, bytes]] = []
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        for member in tar:
            key, _, extension = member.name.partition(".")
            if not samples or samples[-1]["__key__"] != key.encode():
                samples.append({"__key__": key.encode()})
            file = tar.extractfile(member)
            assert file is not None
            samples[-1][extension] = file.read()
    return samples


def read_pixels(sample: dict[str, bytes]) -> np.ndarray:
    if "npy" in sample:
        array: np.ndarray = np.load(io.BytesIO(sample["npy"]))
        return array
    with Image.open(io.BytesIO(sample.get("jpg") or sample["png"])) as image:
        return np.asarray(image)


@pytest.mark.parametrize(
    ("size", "colour", "fmt", "shape", "extension"),
    [
        ((8, 8), False, "PNG", (16, 16, 1), {"train": "npy", "test": "npy"}),
        ((28, 28), True, "PNG", (28, 28, 3), {"train": "npy", "test": "npy"}),
        ((120, 150), True, "JPEG", (110, 138, 3), {"train": "jpg", "test": "png"}),
        ((150, 120), False, "JPEG", (138, 110), {"train": "jpg", "test": "png"}),
    ],
)
def test_shards_hold_every_image_with_its_label(
    tmp_path: Path, size: Any, colour: bool, fmt: str, shape: tuple[int, ...], extension: dict[str, str]
) -> None:
    store = open_store(str(tmp_path))
    blobs = Blobs(store)
    shards = make_shards(store, 60, size=size, colour=colour, fmt=fmt, config=PreprocessConfig(num_workers=2))
    assert shards.splits == {"train": 48, "val": 6, "test": 6}
    tree = Tree.read(blobs, shards.tree)
    for split, kind in extension.items():
        index = read_index(shards, blobs, split)  # type: ignore[arg-type]
        names = [name for name in tree if name.startswith(f"shards/{split}-")]
        samples = [s for name in sorted(names) for s in webdataset_samples(entry(shards, blobs, name))]
        assert [s["__key__"].decode() for s in samples] == index.key.tolist()
        assert [int(s["cls"]) for s in samples] == index.label.tolist()
        assert {read_pixels(s).shape for s in samples} == {shape}
        assert all(set(s) == {"__key__", "cls", kind} for s in samples)
        assert index.format == kind
        # Classes are mixed although the packs hold them one after the other.
        assert len(np.unique(index.label[: len(index) // 2])) == 3 or len(index) < 10


def test_index_finds_each_file_and_knows_its_source(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    blobs = Blobs(store)
    shards = make_shards(store, 30, size=(120, 150), colour=True, fmt="JPEG")
    index = read_index(shards, blobs, "val")
    for row in range(len(index)):
        with blobs.open(
            index.shards[index.shard[row]].digest, int(index.offset[row]), int(index.length[row])
        ) as file:
            image = Image.open(io.BytesIO(file.read()))
        assert image.size == (index.width[row], index.height[row])
        assert index.source[row].startswith(f"class_{index.label[row]}/")


def test_statistics_are_those_of_the_training_split(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    blobs = Blobs(store)
    shards = make_shards(store, 60, size=(20, 20), colour=True, fmt="PNG")
    names = [name for name in Tree.read(blobs, shards.tree) if name.startswith("shards/train")]
    pixels = np.concatenate(
        [
            read_pixels(s).reshape(-1, 3)
            for name in names
            for s in webdataset_samples(entry(shards, blobs, name))
        ]
    )
    np.testing.assert_allclose(shards.mean, pixels.mean(axis=0) / 255, rtol=1e-9)
    np.testing.assert_allclose(shards.std, pixels.std(axis=0) / 255, rtol=1e-9)
    assert sum(shards.class_counts) == 48
    stats = json.loads(entry(shards, blobs, "stats.json"))
    assert stats["mean"] == list(shards.mean)
    assert stats["class_weights"] == list(shards.class_weights)


def test_workers_rounds_and_packs_change_no_byte(tmp_path: Path) -> None:
    items = make_items(80, size=((100, 140), (100, 140)), colour=True, fmt="JPEG")
    trees = set()
    for number, (workers, scratch_bytes) in enumerate([(1, 2**36), (3, 2**36), (2, 2**20)]):
        store = open_store(str(tmp_path / str(number)))
        snapshot = make_snapshot(store, items, colour=True, median=(120, 120), per_pack=[40, 40, 40][number])
        config = PreprocessConfig(num_workers=workers, scratch_bytes=scratch_bytes, shard_bytes=2**18)
        shards = preprocess_snapshot(store, snapshot, config)
        trees.add(shards.tree)
    assert len(trees) == 1
    # Other packs are another snapshot, but hold the same images: the shards do not change.
    store = open_store(str(tmp_path / "repacked"))
    snapshot = make_snapshot(store, items, colour=True, median=(120, 120), per_pack=7)
    assert preprocess_snapshot(store, snapshot, config).tree in trees


def test_a_phone_s_picture_stands_upright(tmp_path: Path) -> None:
    """EXIF orientation is obeyed, and turns width and height."""
    items = make_items(20, size=(100, 140), colour=True, fmt="JPEG")
    picture = Image.fromarray(synthetic_image(0, 99, size=(100, 140)))
    exif = Image.Exif()
    exif[0x0112] = 6
    sink = io.BytesIO()
    picture.save(sink, "JPEG", exif=exif, quality=95)
    items.append(Item(sink.getvalue(), 0, "test", source="phone"))
    store = open_store(str(tmp_path))
    shards = preprocess_snapshot(store, make_snapshot(store, items, colour=True, median=(100, 140)))
    index = read_index(shards, Blobs(store), "test")
    row = index.source.tolist().index("phone")
    assert (index.height[row], index.width[row]) == (154, 110)


@pytest.mark.parametrize("mode", ["P", "RGBA", "LA", "1", "CMYK", "I;16"])
def test_every_kind_of_pixels_becomes_rgb(tmp_path: Path, mode: str) -> None:
    items = make_items(20, size=(24, 24), colour=True, fmt="PNG")
    pixels = synthetic_image(0, 99, size=(24, 24))
    if mode == "I;16":
        image = Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
    else:
        image = Image.fromarray(pixels).convert("L" if mode == "LA" else "RGB").convert(mode)
    sink = io.BytesIO()
    image.save(sink, "JPEG" if mode == "CMYK" else "PNG")
    items.append(Item(sink.getvalue(), 0, "test", source="odd"))
    store = open_store(str(tmp_path))
    blobs = Blobs(store)
    shards = preprocess_snapshot(store, make_snapshot(store, items, colour=True, median=(24, 24)))
    index = read_index(shards, blobs, "test")
    row = index.source.tolist().index("odd")
    samples = webdataset_samples(entry(shards, blobs, "shards/test-00000.tar"))
    stored = read_pixels(samples[row]).astype(int)
    assert stored.shape == (24, 24, 3)
    with Image.open(io.BytesIO(sink.getvalue())) as reopened:
        expected = pixels if mode == "I;16" else np.asarray(reopened.convert("RGB"))
    reference = np.repeat(pixels[..., :1], 3, axis=2) if mode == "I;16" else expected
    assert np.abs(stored - reference).mean() < 3


def test_contact_sheet_shows_each_class(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    shards = make_shards(store, 60, size=(28, 28), colour=True, fmt="PNG")
    sheet = Image.open(io.BytesIO(entry(shards, Blobs(store), "contact_sheet.png")))
    assert sheet.width > 600
    assert sheet.height > 3 * 70
    assert len(np.unique(np.asarray(sheet).reshape(-1, 3), axis=0)) > 100


def test_a_banner_is_stored_without_its_ends(tmp_path: Path) -> None:
    """Its middle, four times as long as high; enlarged whole it would be 220,000 pixels long."""
    items = make_items(20, size=(100, 140), colour=True, fmt="JPEG")
    banner = np.zeros((4, 8000, 3), dtype=np.uint8)
    banner[:, 3990:4010] = 255  # two more on each side, which the resampling reaches
    items.append(Item(encode(banner, "PNG"), 0, "test", source="banner"))
    items.append(Item(encode(banner.transpose(1, 0, 2).copy(), "PNG"), 0, "test", source="tower"))
    store = open_store(str(tmp_path))
    blobs = Blobs(store)
    shards = preprocess_snapshot(store, make_snapshot(store, items, colour=True, median=(100, 140)))
    index = read_index(shards, blobs, "test")
    samples = webdataset_samples(entry(shards, blobs, "shards/test-00000.tar"))
    for source, shape in (("banner", (110, 440, 3)), ("tower", (440, 110, 3))):
        pixels = read_pixels(samples[index.source.tolist().index(source)])
        assert pixels.shape == shape
        assert pixels.min() == 255  # the white middle and nothing else


def test_an_image_that_dali_no_longer_decodes_is_named(tmp_path: Path) -> None:
    items = make_items(20, size=(24, 24), colour=True, fmt="PNG")
    broken = items[3].data[: len(items[3].data) // 2]
    items.append(Item(broken, 0, "train", source="the broken one"))
    store = open_store(str(tmp_path))
    with pytest.raises(StepError, match="the broken one"):
        preprocess_snapshot(store, make_snapshot(store, items, colour=True, median=(24, 24)))


def test_nothing_for_training_is_said(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    items = [
        Item(item.data, item.label, "test") for item in make_items(6, size=(8, 8), colour=False, fmt="PNG")
    ]
    with pytest.raises(InputError, match="no image in its training split"):
        preprocess_snapshot(store, make_snapshot(store, items, colour=False, median=(8, 8)))


def test_only_training_images_is_fine(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    items = [
        Item(item.data, item.label, "train") for item in make_items(6, size=(8, 8), colour=False, fmt="PNG")
    ]
    shards = preprocess_snapshot(store, make_snapshot(store, items, colour=False, median=(8, 8)))
    assert shards.splits == {"train": 6, "val": 0, "test": 0}
    assert len(read_index(shards, Blobs(store), "val")) == 0


def test_a_damaged_pack_is_an_error_not_a_wrong_image(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    items = make_items(30, size=(28, 28), colour=False, fmt="PNG")
    snapshot = make_snapshot(store, items, colour=False, median=(28, 28))
    blobs = Blobs(store)
    name = next(name for name in Tree.read(blobs, snapshot.tree) if name.startswith("packs/"))
    path = blobs.local_path(Tree.read(blobs, snapshot.tree)[name].digest)
    assert path is not None
    path.chmod(0o644)
    data = bytearray(path.read_bytes())
    data[20] ^= 1  # in a header: no image is hurt, and still it is not what the digest says
    path.write_bytes(data)
    with pytest.raises(StoreError):
        preprocess_snapshot(store, snapshot)
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(ConveyorError):
        preprocess_snapshot(store, snapshot)


DRIVER = """
import sys
from pathlib import Path
from support.datasets import preprocess_snapshot
from components.common.refs import parse_ref
from components.common.store import open_store
from components.preprocess.config import PreprocessConfig
import json
snapshot = parse_ref(json.loads(Path(sys.argv[2]).read_bytes()), where="test")
config = PreprocessConfig(num_workers=2, shard_bytes=2**16)
print("ready", flush=True)
print(preprocess_snapshot(open_store(sys.argv[1]), snapshot, config).tree)
"""


@pytest.mark.integration
def test_killed_anywhere_it_goes_on_to_the_same_digest(tmp_path: Path) -> None:
    items = make_items(120, size=(100, 130), colour=True, fmt="JPEG")
    config = PreprocessConfig(num_workers=1, shard_bytes=2**16)
    calm = open_store(str(tmp_path / "calm"))
    snapshot = make_snapshot(calm, items, colour=True, median=(100, 130), per_pack=15)
    expected = preprocess_snapshot(calm, snapshot, config).tree
    url = str(tmp_path / "killed")
    make_snapshot(open_store(url), items, colour=True, median=(100, 130), per_pack=15)
    reference = tmp_path / "snapshot.json"
    reference.write_bytes(snapshot.to_json())
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", DRIVER, url, str(reference)]
    finished = 0
    for delay_s in (0.05, 0.4, 0.8, 1.2, 1.6, 2.0):
        process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, start_new_session=True, text=True
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        try:
            process.wait(delay_s)
            finished += 1
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        process.stdout.close()
    last = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert last.stdout.split()[-1] == expected
