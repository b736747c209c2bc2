"""`conveyor predict` against a registered model: the answers are evaluation's, whatever way the images come."""

import csv
import io
import json
import shutil
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from components.common.blobs import Blobs
from components.common.canonical import digest_bytes
from components.common.store import Store, open_store
from components.compress.export import export
from components.data.index import read_index
from components.data.loaders import open_evaluation_loader
from components.models.architectures import build_model
from components.models.inference import collect
from components.models.metrics import softmax
from components.models.onnx_predictor import OnnxPredictor
from components.models.spec import ModelSpec
from components.preprocess.config import PreprocessConfig
from components.promote.documents import Move, Version
from components.promote.registry import Registry
from pipelines.cli import invoke
from support.datasets import make_items, make_snapshot, preprocess_snapshot
from support.small_pipeline import command, environment


@dataclass(frozen=True)
class Served:
    """A data set as files, a registered model, and what evaluation makes of the test split."""

    url: str
    folder: Path
    sources: list[str]
    """Of the test split, in index order."""
    probabilities: NDArray[np.float64]
    classes: tuple[str, ...]
    extension: str


CASES: dict[str, dict[str, Any]] = {
    "grey-png-raw": {"size": (16, 16), "colour": False, "fmt": "PNG", "config": {}},
    "colour-jpeg-mixed": {
        "size": ((90, 110), (130, 160)),
        "colour": True,
        "fmt": "JPEG",
        "config": {"image_size": 64, "stored_size": 80, "format": "jpeg"},
    },
}


@pytest.fixture(scope="module", params=list(CASES))
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Served:
    case = CASES[request.param]
    root = tmp_path_factory.mktemp("predict")
    store = open_store(str(root / "store"))
    items = make_items(60, size=case["size"], colour=case["colour"], fmt=case["fmt"])
    median = case["size"] if isinstance(case["size"][0], int) else case["size"][0]
    snapshot = make_snapshot(store, items, colour=case["colour"], median=median)
    shards = preprocess_snapshot(store, snapshot, PreprocessConfig(num_workers=1, **case["config"]))
    extension = "png" if case["fmt"] == "PNG" else "jpg"
    for number, item in enumerate(items):
        path = root / "images" / f"class_{item.label}" / f"{number:05d}.{extension}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(item.data)

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        network = build_model(
            "lenet", num_classes=len(shards.classes), channels=shards.channels, image_size=shards.image_size
        ).eval()
    model = export(network, channels=shards.channels, image_size=shards.image_size)
    spec = ModelSpec(
        name="fp32",
        model=digest_bytes(model),
        size_bytes=len(model),
        classes=shards.classes,
        image_size=shards.image_size,
        stored_size=shards.stored_size,
        channels=shards.channels,
        mean=shards.mean,
        std=shards.std,
    )
    register(store, spec, model, root)
    blobs = Blobs(store)
    with open_evaluation_loader(shards, blobs, split="test", batch_size=4) as batches:
        outputs = collect(batches, OnnxPredictor(model, threads=1))
    sources = read_index(shards, blobs, "test").source.tolist()
    return Served(store.url, root / "images", sources, softmax(outputs.logits), shards.classes, extension)


def register(store: Store, spec: ModelSpec, model: bytes, folder: Path) -> None:
    registry = Registry(store, "stripes")
    version = registry.claim(
        Version(
            registry="stripes",
            number=1,
            challenger=digest_bytes(b"any"),
            created="2026-01-01T00:00:00+00:00",
            spec=spec,
            metrics={},
            num_test=0,
            lineage={},
        )
    )
    path = folder / "model.onnx"
    path.write_bytes(model)
    registry.write_model(version, path)
    move = Move(
        action="force",
        before=None,
        before_model=None,
        after=1,
        after_model=spec.model,
        at="2026-01-01T00:00:00+00:00",
        reason="a test",
    )
    assert registry.move(registry.pointer(), move)


def predict(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    status = invoke(["predict", *map(str, arguments), "--threads", "1", "--quiet"])
    out, err = capsys.readouterr()
    return status, out, err


def test_answers_on_the_test_split_are_evaluations(
    served: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, err = predict(
        capsys, served.folder, "--store", served.url, "--format", "json", "--top", "3", "--batch-size", "7"
    )
    assert (status, err) == (0, "")
    answers = {Path(row["path"]).relative_to(served.folder).as_posix(): row for row in json.loads(out)}
    assert len(answers) == 60
    for source, probabilities in zip(served.sources, served.probabilities, strict=True):
        row = answers[f"{source}.{served.extension}"]
        assert row["label"] == served.classes[int(probabilities.argmax())]
        found = {item["label"]: item["probability"] for item in row["top"]}
        assert [found[name] for name in served.classes] == pytest.approx(probabilities.tolist(), abs=2e-6)
        assert row["probability"] == max(found.values())


def test_a_bad_file_among_good_ones(
    served: Served, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    good = sorted(served.folder.rglob("*.*"))[:3]
    for number, path in enumerate(good):
        shutil.copy(path, tmp_path / f"good{number}.{served.extension}")
    (tmp_path / "cut.jpg").write_bytes(good[0].read_bytes()[:-60])
    (tmp_path / "empty.png").touch()
    (tmp_path / "words.png").write_text("this is no image")
    (tmp_path / "notes.txt").write_text("not even looked at")
    status, out, err = predict(capsys, tmp_path, "--store", served.url, "--format", "csv")
    assert status == 2
    rows = list(csv.reader(io.StringIO(out)))
    assert rows[0] == ["path", "label", "probability"]
    assert [Path(row[0]).name for row in rows[1:]] == [f"good{i}.{served.extension}" for i in range(3)]
    assert f"{tmp_path}/cut.jpg: truncated" in err
    assert f"{tmp_path}/empty.png: empty" in err
    assert f"{tmp_path}/words.png: not an image" in err
    assert "3 of 6 images could not be read" in err
    assert "notes.txt" not in err

    status, out, _ = predict(capsys, tmp_path, "--store", served.url, "--format", "json")
    assert status == 2
    assert [row.get("error", {}).get("reason") for row in json.loads(out)].count(None) == 3


def test_files_folders_archives_and_a_table(
    served: Served, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    some = sorted(served.folder.rglob("*.*"))[:2]
    archive = tmp_path / "more.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(some[0], "inside/a" + some[0].suffix)
    status, out, err = predict(
        capsys, *some, archive, served.folder / "class_1", "--store", served.url, "--registry", "stripes"
    )
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].split() == ["image", "label", "probability"]
    assert len(lines) == 1 + 2 + 1 + 20
    assert lines[1].split()[0] == str(some[0])
    assert lines[3].split()[0] == f"{archive}:inside/a{some[0].suffix}"
    assert lines[1].split()[1:] == lines[3].split()[1:]


@pytest.mark.integration
def test_images_in_a_bucket(
    served: Served, capsys: pytest.CaptureFixture[str], s3_store_url: str, tmp_path: Path
) -> None:
    bucket = open_store(s3_store_url)
    paths = sorted(served.folder.rglob("*.*"))[:5]
    for path in paths:
        bucket.put(f"new/{path.name}", path)
    arguments = ("--store", served.url, "--format", "json")
    _, out, _ = predict(capsys, *paths, *arguments)
    expected = [row["label"] for row in json.loads(out)]
    status, out, err = predict(capsys, f"{s3_store_url}/new", *arguments)
    assert (status, err) == (0, "")
    assert [row["label"] for row in json.loads(out)] == expected
    assert json.loads(out)[0]["path"] == f"{s3_store_url}/new/{paths[0].name}"
    status, out, _ = predict(capsys, f"{s3_store_url}/new/{paths[2].name}", *arguments)
    assert status == 0
    assert [row["label"] for row in json.loads(out)] == [expected[2]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{images}/nothing"], "no such file or folder"),
        (["{empty}"], "there is no image here"),
        (["{images}", "--model", "7"], "has no version 7"),
        (["{images}", "--model", "best"], "not a version of a model"),
        (["{images}", "--registry", "other"], "no model is registered as other"),
        (["{images}", "--store", "{empty}"], "no model is registered in this store"),
        (["{images}", "--format", "xml"], "'xml' is not one of"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_error(
    served: Served, capsys: pytest.CaptureFixture[str], tmp_path: Path, arguments: list[str], message: str
) -> None:
    filled = [argument.format(images=served.folder, empty=tmp_path) for argument in arguments]
    if "--store" not in filled:
        filled += ["--store", served.url]
    status, out, err = predict(capsys, *filled)
    assert status == 2
    assert out == ""
    assert message in err
    assert "Traceback" not in err


def test_a_version_by_number(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    path = next(served.folder.rglob("*.*"))
    answers = [predict(capsys, path, "--store", served.url, "--model", v) for v in ("champion", "1", "v1")]
    assert answers[0][0] == 0
    assert answers[0] == answers[1] == answers[2]


def test_a_reader_that_goes_away_ends_it_quietly(served: Served, tmp_path: Path) -> None:
    process = subprocess.Popen(
        command(["predict", served.folder, "--store", served.url, "--batch-size", "1", "--quiet"]),
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    with process.stderr:
        assert process.stderr.read() == b""
    assert process.wait(120) == 0
