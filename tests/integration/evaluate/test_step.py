"""The evaluate step on a real small network."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from components.common.errors import InputError
from components.common.progress import make_reporter
from components.common.refs import EvaluationRef
from components.common.step import Outcome, execute
from components.common.store import open_store
from components.common.trees import Tree
from components.data.index import read_index
from components.evaluate import run as step
from components.evaluate.config import EvaluateConfig
from components.models.calibration import sample_nll
from components.models.inference import collect, torch_forward
from components.models.weights import load_model
from support.small_world import SmallWorld, make_small_world


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> SmallWorld:
    # Barely trained, so that there are mistakes to report.
    return make_small_world(tmp_path_factory.mktemp("evaluate"), num_images=300, epochs=4)


def evaluate(world: SmallWorld, **settings: Any) -> Outcome:
    config = EvaluateConfig(
        **({"threads": 1, "bootstrap_resamples": 200, "num_loader_threads": 1} | settings)
    )
    inputs = step.Inputs(model=world.model, shards=world.shards)
    return execute(step, config, inputs, world.store, make_reporter(quiet=True))


def entry(world: SmallWorld, outcome: Outcome, name: str) -> bytes:
    return world.blobs.read(Tree.read(world.blobs, outcome.output.tree)[name].digest)


def test_figures_agree_with_predictions_and_with_the_network(world: SmallWorld) -> None:
    outcome = evaluate(world)
    ref = outcome.output
    assert isinstance(ref, EvaluationRef)
    table = pq.read_table(io.BytesIO(entry(world, outcome, "predictions.parquet")))
    index = read_index(world.shards, world.blobs, "test")
    assert table["key"].to_pylist() == index.key.tolist()
    label, predicted = table["label"].to_numpy(), table["predicted"].to_numpy()
    assert ref.num_samples == len(label) == world.shards.splits["test"]
    assert ref.metrics["accuracy"] == pytest.approx((label == predicted).mean(), abs=1e-6)
    assert 0.2 < ref.metrics["accuracy"] < 1

    from components.data.loaders import open_evaluation_loader

    with open_evaluation_loader(world.shards, world.blobs, split="test", batch_size=7) as batches:
        outputs = collect(batches, torch_forward(load_model(world.model, world.blobs)))
    assert outputs.logits.argmax(axis=1).tolist() == predicted.tolist()
    assert ref.metrics["loss"] == pytest.approx(sample_nll(outputs.logits, outputs.labels).mean(), abs=1e-4)


def test_metrics_and_report_are_published(world: SmallWorld) -> None:
    outcome = evaluate(world)
    document = json.loads(entry(world, outcome, "metrics.json"))
    assert np.array(document["confusion_matrix"]).sum() == document["num_samples"]
    assert document["calibration"]["temperature"] > 0
    wrong = round((1 - document["metrics"]["accuracy"]["value"]) * document["num_samples"])
    assert len(document["worst"]) == min(24, wrong) > 0
    first = document["worst"][0]
    assert entry(world, outcome, first["picture"]).startswith(b"\x89PNG")
    assert first["source"] in read_index(world.shards, world.blobs, "test").source.tolist()
    html = entry(world, outcome, "report.html").decode()
    assert "<script" not in html
    assert "http://" not in html
    assert first["source"] in html


def test_the_same_again_is_reused_and_elsewhere_gives_the_same_digests(
    world: SmallWorld, tmp_path: Path
) -> None:
    first = evaluate(world)
    assert evaluate(world).state == "reused"
    assert evaluate(world, num_loader_threads=2).key == first.key
    again = make_small_world(tmp_path, num_images=300, epochs=4)
    assert again.model == world.model
    assert evaluate(again).output == first.output


def test_batch_size_changes_no_answer(world: SmallWorld) -> None:
    one, other = evaluate(world, batch_size=3), evaluate(world, batch_size=1000)
    assert one.key != other.key
    answers = [
        pq.read_table(io.BytesIO(entry(world, o, "predictions.parquet")))["predicted"].to_pylist()
        for o in (one, other)
    ]
    assert answers[0] == answers[1]


def test_the_validation_split_has_no_temperature_of_its_own(world: SmallWorld) -> None:
    outcome = evaluate(world, split="val", num_worst=0)
    assert isinstance(outcome.output, EvaluationRef)
    assert outcome.output.split == "val"
    assert "temperature" not in outcome.output.metrics
    assert json.loads(entry(world, outcome, "metrics.json"))["worst"] == []


def test_an_empty_split_is_the_users_error(world: SmallWorld) -> None:
    shards = world.shards.model_copy(update={"splits": {"train": 10, "val": 2, "test": 0}})
    inputs = step.Inputs(model=world.model, shards=shards)
    with pytest.raises(InputError, match="test split holds no image"):
        execute(step, EvaluateConfig(), inputs, world.store, make_reporter(quiet=True))


def test_other_classes_are_refused(world: SmallWorld) -> None:
    model = world.model.model_copy(update={"classes": ("a", "b")})
    inputs = step.Inputs(model=model, shards=world.shards)
    with pytest.raises(InputError, match="same classes"):
        execute(step, EvaluateConfig(), inputs, world.store, make_reporter(quiet=True))


def test_nothing_is_published_when_the_model_is_missing(world: SmallWorld, tmp_path: Path) -> None:
    empty = open_store(str(tmp_path / "empty"))
    inputs = step.Inputs(model=world.model, shards=world.shards)
    with pytest.raises(Exception, match="lacks a blob"):
        execute(step, EvaluateConfig(threads=1), inputs, empty, make_reporter(quiet=True))
    assert list(empty.list("records/")) == []
