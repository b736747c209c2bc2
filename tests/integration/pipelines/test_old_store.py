"""What an older version stored stays readable: listed, verified, reported, served and built upon."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from components.common.canonical import digest_bytes
from support.images import make_image_folder

pytestmark = pytest.mark.integration

STORES = sorted((Path(__file__).resolve().parents[2] / "data").glob("store-*"))


@pytest.fixture(params=STORES, ids=lambda path: path.name)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    copy = tmp_path / "store"
    shutil.copytree(request.param, copy)
    return copy


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """The images that the old stores were made from."""
    return make_image_folder(
        tmp_path / "images", classes=2, per_class=12, size=(16, 16), colour=False, fmt="png", seed=5
    )


def conveyor(*arguments: str | Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "pipelines.cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_everything_is_verified_and_nothing_is_garbage(store: Path) -> None:
    conveyor("verify", "--store", store)
    before = sorted(path for path in store.rglob("*") if path.is_file())
    conveyor("gc", "--store", store, "--delete", "--grace", "0s")
    assert [path for path in before if not path.exists()] == []


def test_the_run_is_listed_and_reported(store: Path, tmp_path: Path) -> None:
    assert "old-run" in conveyor("runs", "--store", store)
    (store / "runs/old-run/report.html").unlink()
    conveyor("report", "old-run", "--store", store, "--output", tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "shapes version 1 is the champion" in page
    assert "class_0" in page


def test_the_champion_answers_as_it_did(store: Path, images: Path) -> None:
    answers = json.loads(conveyor("predict", images, "--store", store, "--format", "json"))
    listed = answers["predictions"] if isinstance(answers, dict) else answers
    assert len(listed) == 24
    card = json.loads(conveyor("models", "show", "1", "--store", store, "--json"))
    assert card["version"] == 1


def test_a_grown_source_inherits_from_the_old_snapshot(store: Path, images: Path, tmp_path: Path) -> None:
    old = {path: digest_bytes(path.read_bytes()).removeprefix("sha256:") for path in images.rglob("*.png")}
    Image.new("L", (16, 16), 77).save(images / "class_0" / "new.png")
    settings = ["--set", "ingest.dataset=shapes", "--until", "ingest", "--run", "grown", "--json"]
    result = json.loads(conveyor("run", "--source", images, "--store", store, *settings))
    reference = result["steps"]["ingest"]["output"]
    assert result["ingest"]["accepted"] == 25

    import pyarrow.parquet as pq

    from components.common.blobs import Blobs
    from components.common.store import open_store
    from components.common.trees import Tree

    blobs = Blobs(open_store(str(store)))

    def splits(tree: str, name: str) -> dict[str, str]:
        path = tmp_path / name
        blobs.fetch(Tree.read(blobs, tree)["manifest.parquet"].digest, path)
        table = pq.read_table(path, columns=["digest", "split"]).to_pydict()
        return dict(zip(table["digest"], table["split"], strict=True))

    pointer = json.loads((store / "runs/old-run/ingest.json").read_text())
    record = json.loads((store / f"records/ingest/{pointer['key']}.json").read_text())
    before, after = splits(record["output"]["tree"], "old.parquet"), splits(reference["tree"], "new.parquet")
    assert set(before) == set(old.values())
    assert {digest: after[digest] for digest in before} == before
