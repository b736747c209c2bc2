"""Ingest as a whole, on real files, with DALI and worker processes."""

import json
import shutil
import tarfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from components.common.blobs import Blobs, blob_key
from components.common.errors import InputError
from components.common.progress import make_reporter
from components.common.refs import SnapshotRef
from components.common.step import StepContext
from components.common.store import Store, open_store
from components.common.trees import Tree
from components.ingest import run
from components.ingest.config import IngestConfig
from pipelines.example import write_digits
from support.crash import KILLER, die_on_killer
from support.images import make_image_folder, synthetic_image

pytestmark = pytest.mark.integration
Rows = Callable[..., dict[str, dict[str, Any]]]
Ingest = Callable[..., Any]


def summary_of(store: Store, ref: Any) -> dict[str, Any]:
    blobs = Blobs(store)
    value: dict[str, Any] = json.loads(blobs.read(Tree.read(blobs, ref.tree)["summary.json"].digest))
    return value


def test_the_digits(tmp_path: Path, ingest: Ingest, rows: Rows, store: Store) -> None:
    write_digits(tmp_path / "digits")
    ref = ingest(tmp_path / "digits").output
    assert isinstance(ref, SnapshotRef)
    assert ref.classes == tuple("0123456789")
    assert (ref.num_accepted, ref.num_quarantined, ref.num_duplicates) == (1796, 5, 1)
    assert ref.reasons == {"label_conflict": 2, "not_an_image": 1, "too_small": 1, "truncated": 1}
    assert (ref.channels, ref.median_height, ref.median_width) == (1, 8, 8)
    assert abs(ref.splits["val"] - 180) <= 10
    assert abs(ref.splits["test"] - 180) <= 10
    found = rows(ref)
    # The perceptual hash alone pairs 63 of them; not one pair is a near duplicate.
    assert Counter(Counter(r["group"] for r in found.values() if r["group"] is not None).values()) == {
        1: 1796
    }
    assert found["5/planted-truncated.png"]["reason"] == "truncated"
    assert found["0/planted-copy.png"]["status"] == "duplicate"
    assert found["7/planted-wrong-class.png"]["pack"] is None
    assert (
        summary_of(store, ref)["reasons"]["too_small"]["examples"][0]["source"] == "3/planted-one-pixel.png"
    )


def test_colour_jpegs_of_mixed_sizes(tmp_path: Path, ingest: Ingest, rows: Rows, store: Store) -> None:
    source = make_image_folder(tmp_path / "photos", size=((40, 60), (90, 120)))
    ref = ingest(source, "pack_bytes=40000").output
    assert (ref.num_accepted, ref.channels, ref.num_quarantined) == (60, 3, 0)
    blobs = Blobs(store)
    tree = Tree.read(blobs, ref.tree)
    packs = [name for name in tree if name.startswith("packs/")]
    assert len(packs) > 1
    for name, row in rows(ref).items():
        original = (source / name).read_bytes()
        pack = tree[f"packs/{row['pack']}.tar"]
        with blobs.open(pack.digest, row["offset"], row["length"]) as stream:
            assert stream.read() == original
        with Image.open(source / name) as image:
            assert (row["width"], row["height"]) == image.size
    blobs.fetch(tree[packs[0]].digest, tmp_path / "pack.tar")
    with tarfile.open(tmp_path / "pack.tar") as tar:
        members = tar.getmembers()
    assert all((m.mtime, m.uid, m.uname) == (0, 0, "") and m.name.endswith(".jpeg") for m in members)


def test_orientation_is_applied(tmp_path: Path, ingest: Ingest, rows: Rows) -> None:
    source = make_image_folder(tmp_path / "photos", size=(40, 60))
    turned = Image.open(source / "class_0/0000.jpg")
    exif = turned.getexif()
    exif[0x0112] = 6  # turn by 90 degrees
    turned.save(source / "class_0/0000.jpg", exif=exif)
    row = rows(ingest(source).output)["class_0/0000.jpg"]
    assert (row["height"], row["width"], row["status"]) == (60, 40, "accepted")


def test_unchanged_is_reused_and_elsewhere_is_the_same_snapshot(tmp_path: Path, ingest: Ingest) -> None:
    source = make_image_folder(tmp_path / "a" / "photos")
    first = ingest(source)
    again = ingest(source)
    assert (first.state, again.state) == ("done", "reused")
    assert again.output == first.output
    shutil.copytree(source, tmp_path / "b" / "photos", copy_function=shutil.copyfile)  # other mtimes
    other_store = open_store(str(tmp_path / "other"))
    assert ingest(tmp_path / "b" / "photos", "num_workers=1", into=other_store).output == first.output


def test_three_added_images_make_one_small_pack_and_move_nothing(
    tmp_path: Path, ingest: Ingest, rows: Rows, store: Store
) -> None:
    source = make_image_folder(tmp_path / "photos", per_class=30)
    first = ingest(source)
    for i in range(3):
        Image.fromarray(synthetic_image(i, 1000 + i)).save(source / f"class_{i}" / "new.png")
    second = ingest(source)
    assert second.measurements["images_read"] == 3
    blobs = Blobs(store)
    old, new = Tree.read(blobs, first.output.tree), Tree.read(blobs, second.output.tree)
    old_packs = {n for n in old if n.startswith("packs/")}
    new_packs = {n for n in new if n.startswith("packs/")}
    assert old_packs < new_packs
    (added,) = new_packs - old_packs
    assert new[added].size_bytes < 30_000
    before, after = rows(first.output), rows(second.output)
    assert len(after) == len(before) + 3
    for name, row in before.items():
        assert row == after[name]
    # Removing them again leads back to the first snapshot, through the second.
    for i in range(3):
        (source / f"class_{i}" / "new.png").unlink()
    third = ingest(source)
    assert third.output.tree == first.output.tree


def test_a_kill_before_the_record_is_repaired_by_the_rerun(
    tmp_path: Path, ingest: Ingest, store: Store
) -> None:
    source = make_image_folder(tmp_path / "photos")
    first = ingest(source)
    Image.fromarray(synthetic_image(1, 999)).save(source / "class_1" / "new.png")
    second = ingest(source)
    store.delete(
        f"records/ingest/{second.key}.json"
    )  # the pointer had been moved, the record was not written
    again = ingest(source)
    assert (again.state, again.key, again.output) == ("done", second.key, second.output)
    store.delete(next(iter(store.list("datasets/"))).key)
    assert ingest(source).output.tree != first.output.tree


def test_a_collected_parent_is_not_missed(tmp_path: Path, ingest: Ingest, store: Store, rows: Rows) -> None:
    """The snapshot before the latest may be gone: the latest stands in for it, and no image moves."""
    source = make_image_folder(tmp_path / "photos")
    first = ingest(source)
    Image.fromarray(synthetic_image(1, 999)).save(source / "class_1" / "new.png")
    second = ingest(source)
    store.delete(blob_key(first.output.tree))
    third = ingest(source)
    assert (third.state, third.output) == ("done", second.output)
    assert third.measurements["images_read"] == 0
    store.delete(blob_key(second.output.tree))
    assert ingest(source).output.num_accepted == second.output.num_accepted, "all gone: anew"


def test_lost_packs_are_written_again(tmp_path: Path, ingest: Ingest, store: Store) -> None:
    source = make_image_folder(tmp_path / "photos")
    first = ingest(source)
    tree = Tree.read(Blobs(store), first.output.tree)
    (pack,) = [name for name in tree if name.startswith("packs/")]
    store.delete(blob_key(tree[pack].digest))
    Image.fromarray(synthetic_image(1, 999)).save(source / "class_1" / "new.png")
    second = ingest(source).output
    new = Tree.read(Blobs(store), second.tree)
    assert all(Blobs(store).exists(new[name].digest) for name in new)


def test_another_seed_is_another_line(tmp_path: Path, ingest: Ingest, rows: Rows) -> None:
    source = make_image_folder(tmp_path / "photos", per_class=40)
    zero = ingest(source)
    one = ingest(source, "split.seed=1")
    assert {n: r["split"] for n, r in rows(zero.output).items()} != {
        n: r["split"] for n, r in rows(one.output).items()
    }
    assert ingest(source).state == "reused", "going back finds the first line as it was"


def test_changed_settings_keep_splits(tmp_path: Path, ingest: Ingest, rows: Rows) -> None:
    source = make_image_folder(tmp_path / "photos")
    Image.fromarray(synthetic_image(0, 900, size=(6, 6))).save(source / "class_0" / "small.png")
    first = ingest(source)
    second = ingest(source, "min_side=8")
    before, after = rows(first.output), rows(second.output)
    assert after["class_0/small.png"]["reason"] == "too_small"
    assert all(row["split"] == before[name]["split"] for name, row in after.items() if row["split"])


def test_a_resolved_conflict_comes_back(tmp_path: Path, ingest: Ingest, rows: Rows, store: Store) -> None:
    """Its bytes were in no pack that the snapshot lists, so they are packed late."""
    source = make_image_folder(tmp_path / "photos")
    shutil.copyfile(source / "class_0/0000.jpg", source / "class_1/copy.jpg")
    shutil.copyfile(source / "class_2/0000.jpg", source / "class_2/copy.jpg")
    first = rows(ingest(source).output)
    assert first["class_0/0000.jpg"]["reason"] == first["class_1/copy.jpg"]["reason"] == "label_conflict"
    assert first["class_2/copy.jpg"]["status"] == "duplicate"
    (source / "class_1/copy.jpg").unlink()
    (source / "class_2/0000.jpg").unlink()
    ref = ingest(source).output
    second = rows(ref)
    tree = Tree.read(Blobs(store), ref.tree)
    for name in ("class_0/0000.jpg", "class_2/copy.jpg"):
        row = second[name]
        assert row["status"] == "accepted"
        with Blobs(store).open(
            tree[f"packs/{row['pack']}.tar"].digest, row["offset"], row["length"]
        ) as stream:
            assert stream.read() == (source / name).read_bytes()
    assert second["class_2/copy.jpg"]["split"] == first["class_2/0000.jpg"]["split"], (
        "same pixels, same split"
    )


def test_a_bridge_is_held_out(tmp_path: Path, ingest: Ingest, rows: Rows) -> None:
    """Two pictures that were far apart, and one that is near both: a fade between them in small steps."""
    source = make_image_folder(tmp_path / "photos", per_class=30, size=(48, 48), fmt="png")
    before = rows(ingest(source).output)
    a = next(n for n, r in before.items() if r["split"] == "train")
    b = next(n for n, r in before.items() if r["split"] == "test")
    pixels = [np.asarray(Image.open(source / n)).astype(float) for n in (a, b)]
    for i in range(1, 400):
        faded = pixels[0] * (1 - i / 400) + pixels[1] * (i / 400)
        Image.fromarray(faded.astype(np.uint8)).save(source / "class_0" / f"fade{i:03d}.png")
    after = rows(ingest(source).output)
    fades = Counter(row["status"] for name, row in after.items() if "fade" in name)
    assert fades["held_out"] > 300
    assert {row["reason"] for row in after.values() if row["status"] == "held_out"} == {"bridge"}
    assert {n: after[n]["split"] for n in before} == {n: before[n]["split"] for n in before}
    groups: dict[int, set[str]] = {}
    for row in after.values():
        if row["split"]:
            groups.setdefault(row["group"], set()).add(row["split"])
    assert all(len(splits) == 1 for splits in groups.values())


def test_near_duplicates_of_two_classes_are_only_suspected(
    tmp_path: Path, ingest: Ingest, store: Store
) -> None:
    source = make_image_folder(tmp_path / "photos", size=(64, 64))
    with Image.open(source / "class_0/0003.jpg") as image:
        image.save(source / "class_1/again.jpg", quality=60)
    ref = ingest(source).output
    assert (ref.num_accepted, ref.num_quarantined) == (61, 0)
    (suspect,) = summary_of(store, ref)["suspects"]
    assert [image["source"] for image in suspect["images"]] == ["class_0/0003.jpg", "class_1/again.jpg"]


def test_an_image_that_kills_its_decoder_is_quarantined(tmp_path: Path, store: Store, rows: Rows) -> None:
    source = make_image_folder(tmp_path / "photos", per_class=100)
    for name in ("class_0/0042.jpg", "class_2/0007.jpg"):
        path = source / name
        path.write_bytes(path.read_bytes() + KILLER)
    config = IngestConfig(source=str(source), num_workers=2)
    context = StepContext(store, Blobs(store), "0" * 64, make_reporter(quiet=True), tmp_path)
    ref = run.run(config, run.Inputs(), context, check=die_on_killer)
    assert (ref.num_accepted, ref.reasons) == (298, {"decoder_crash": 2})
    row = rows(ref)["class_0/0042.jpg"]
    assert row["detail"] == "the worker ended with SIGSEGV"
    assert row["digest"]


def test_two_at_once_agree(tmp_path: Path, store: Store) -> None:
    import subprocess
    import sys

    source = make_image_folder(tmp_path / "photos", per_class=60)
    command = [sys.executable, "-m", "components.ingest", "--store", str(tmp_path / "store"), "--quiet"]
    command += ["--set", f"ingest.source={source}", "--set", "ingest.num_workers=1"]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(2)]
    answers = [process.communicate(timeout=120)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert answers[0] == answers[1] != b""
    assert len(list(store.list("datasets/"))) == len(list(store.list("records/ingest/"))) == 1


def test_too_many_bad_ones_fail_with_the_cure(tmp_path: Path, ingest: Ingest, store: Store) -> None:
    source = make_image_folder(tmp_path / "photos", per_class=5)
    for i in range(4):
        (source / "class_0" / f"bad{i}.png").write_text("no image")
    with pytest.raises(InputError, match="4 of 19 images") as caught:
        ingest(source, "max_quarantined_share=0.2")
    assert "not_an_image" in (caught.value.found or "")
    assert "class_0/bad0.png" in (caught.value.found or "")
    assert not list(store.list("records/"))
    assert ingest(source, "max_quarantined_share=0.25").state == "done"
