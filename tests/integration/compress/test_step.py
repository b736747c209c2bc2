"""The whole step on a trained network: real loaders, real pruning, real ONNX Runtime."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from components.common.blobs import Blobs
from components.common.errors import InputError, StepError
from components.common.progress import QuietReporter
from components.common.refs import CompressedRef, Split
from components.common.step import Outcome, execute
from components.common.trees import Tree
from components.compress import candidates as candidates_module
from components.compress import healed, work
from components.compress import run as step
from components.compress.config import CompressConfig
from components.compress.export import export
from components.data.loaders import open_evaluation_loader
from components.models.onnx_predictor import OnnxPredictor
from support.small_world import SmallWorld

pytestmark = pytest.mark.integration

SETTINGS = {
    "max_accuracy_drop": 0.05,
    "prune": {"ratios": [0.5], "epochs": 2},
    "quantize": {"calibration_images": 40},
    "latency": {"seconds": 0.5, "rounds": 3},
    "threads": 1,
}


def settings(**changes: Any) -> CompressConfig:
    return CompressConfig.model_validate_json(json.dumps(SETTINGS | changes))


def compress(world: SmallWorld, config: CompressConfig) -> Outcome:
    inputs = step.Inputs(model=world.model, shards=world.shards)
    return execute(step, config, inputs, world.store, QuietReporter())


@pytest.fixture(scope="module")
def done(world: SmallWorld) -> Outcome:
    return compress(world, settings())


def output(outcome: Outcome) -> CompressedRef:
    assert isinstance(outcome.output, CompressedRef)
    return outcome.output


def test_all_candidates_are_there_with_their_figures(world: SmallWorld, done: Outcome) -> None:
    ref = output(done)
    assert [c.name for c in ref.candidates] == ["fp32", "int8", "fp32-pruned-50", "int8-pruned-50"]
    fp32, int8, pruned, both = ref.candidates
    assert both.size_bytes < int8.size_bytes < fp32.size_bytes
    assert pruned.num_parameters == both.num_parameters < fp32.num_parameters == world.model.num_parameters
    assert (fp32.pruned, pruned.pruned) == (0.0, 0.5)
    assert fp32.accuracy_validation == pytest.approx(world.model.val_accuracy)
    tree = Tree.read(world.blobs, ref.tree)
    assert set(tree) == {"candidates.json", *(f"candidates/{c.name}.onnx" for c in ref.candidates)}
    for candidate in ref.candidates:
        entry = tree[f"candidates/{candidate.name}.onnx"]
        assert (entry.digest, entry.size_bytes) == (candidate.model, candidate.size_bytes)


def test_the_accuracies_are_those_of_the_files(world: SmallWorld, done: Outcome) -> None:
    for candidate in output(done).candidates:
        predictor = OnnxPredictor(world.blobs.read(candidate.model))
        cases: tuple[tuple[Split, float], ...] = (
            ("val", candidate.accuracy_validation),
            ("test", candidate.accuracy),
        )
        for split, expected in cases:
            with open_evaluation_loader(
                world.shards, world.blobs, split=split, batch_size=7, backend="torchvision"
            ) as batches:
                right = [
                    np.asarray(b.labels) == predictor(np.asarray(b.images)).argmax(axis=1) for b in batches
                ]
            assert np.concatenate(right).mean() == pytest.approx(expected)


def test_everything_is_measured_beside_the_record(done: Outcome) -> None:
    latency = done.measurements["latency"]
    assert set(latency) == {"original", *(c.name for c in output(done).candidates)}
    for sizes in latency.values():
        assert set(sizes) == {"batch_1", "batch_32"}
        for figures in sizes.values():
            assert 0 < figures["p50_ms"] <= figures["p95_ms"] <= figures["p99_ms"]
    assert {"cpu", "threads", "onnxruntime", "torch"} <= set(done.measurements["latency_conditions"])
    assert "ms" not in output(done).to_json().decode()


def test_an_unchanged_rerun_is_reused(world: SmallWorld, done: Outcome) -> None:
    again = compress(world, settings())
    assert again.state == "reused"
    assert again.output == done.output


PROGRAM = """
import json, sys
sys.path[:0] = sys.argv[1:3]
from components.common.progress import QuietReporter
from components.common.refs import parse_ref
from components.common.step import execute
from components.common.store import open_store
from components.compress import healed, work
from components.compress import run as step
from components.compress.config import CompressConfig
from components.compress.export import export
given = json.load(sys.stdin)
inputs = step.Inputs(**{name: parse_ref(given[name], where=name) for name in ("model", "shards")})
store = open_store(given["store"])
outcome = execute(step, CompressConfig.model_validate_json(given["config"]), inputs, store, QuietReporter())
print(json.dumps([outcome.state, outcome.output.to_value()]))
"""


def test_another_process_makes_the_same_candidates_to_the_bit(
    world: SmallWorld, done: Outcome, tmp_path: Path
) -> None:
    root = Path(__file__).parents[3]
    # Another allowed drop is another key, and changes nothing but the choice.
    config = settings(max_accuracy_drop=1.0)
    given = {
        "model": world.model.to_value(),
        "shards": world.shards.to_value(),
        "store": world.store.url,
        "config": config.model_dump_json(),
    }
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM, str(root), str(root / "tests")],
        input=json.dumps(given),
        cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "2", "PYTHONHASHSEED": "7"},
        capture_output=True,
        text=True,
        check=True,
    )
    state, value = json.loads(result.stdout)
    assert state == "done"
    assert value["candidates"] == output(done).to_value()["candidates"]


@pytest.mark.parametrize(("fastest", "drop"), [("int8", 0.05), ("fp32-pruned-50", 1.0), ("fp32", 0.05)])
def test_recorded_latencies_make_the_choice(
    world: SmallWorld, tmp_path: Path, fastest: str, drop: float
) -> None:
    path = tmp_path / "latency.json"
    names = ("fp32", "int8", "fp32-pruned-50", "int8-pruned-50")
    path.write_text(json.dumps({name: 1.0 if name == fastest else 5.0 for name in names}))
    first = compress(world, settings(measurements=str(path), max_accuracy_drop=drop))
    assert output(first).chosen == fastest
    assert "latency" not in first.measurements
    # The content is in the key, the file's name is not.
    moved = tmp_path / "elsewhere.json"
    path.rename(moved)
    again = compress(world, settings(measurements=str(moved), max_accuracy_drop=drop))
    assert (again.state, again.key) == ("reused", first.key)


def test_a_missing_recorded_latency_is_named(world: SmallWorld, tmp_path: Path) -> None:
    path = tmp_path / "latency.json"
    path.write_text('{"fp32": 1.0}')
    with pytest.raises(InputError, match="lack a candidate") as raised:
        compress(world, settings(measurements=str(path), prune={"ratios": []}))
    assert raised.value.expected == "a figure for int8"


def test_heavier_pruning_is_tried_only_while_it_pays(world: SmallWorld) -> None:
    # Without healing a network without a quarter of its channels knows little: 0.375 is not tried.
    ref = output(compress(world, settings(prune={"epochs": 0}, max_accuracy_drop=0.0)))
    assert [c.name for c in ref.candidates] == ["fp32", "int8", "fp32-pruned-25", "int8-pruned-25"]
    ref = output(compress(world, settings(prune={"epochs": 0}, max_accuracy_drop=1.0)))
    assert ref.candidates[-1].name == "int8-pruned-37.5"


def test_a_candidate_that_cannot_be_made_is_left_out(
    world: SmallWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> bytes:
        raise NotImplementedError("no such operator")

    monkeypatch.setattr(candidates_module, "quantize", broken)
    ref = output(compress(world, settings(prune={"ratios": []}, max_accuracy_drop=0.06)))
    assert [c.name for c in ref.candidates] == ["fp32"]
    table = json.loads(world.blobs.read(Tree.read(world.blobs, ref.tree)["candidates.json"].digest))
    assert table["dropped"] == {"int8": "NotImplementedError: no such operator"}


def test_an_export_that_says_something_else_stops_the_step(
    world: SmallWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = export

    def wrong(model: Any, **how: Any) -> bytes:
        with_other_head = model.__class__(*model)
        head = with_other_head[-1].__class__(
            with_other_head[-1].in_features, with_other_head[-1].out_features
        )
        with_other_head[-1] = head
        return real(with_other_head.eval(), **how)

    monkeypatch.setattr(candidates_module, "export", wrong)
    with pytest.raises(StepError, match="says something else"):
        compress(world, settings(prune={"ratios": []}, max_accuracy_drop=0.07))


def test_nothing_but_blobs_and_the_record_is_written(world: SmallWorld, done: Outcome) -> None:
    tops = {info.key.split("/")[0] for info in world.store.list()}
    assert tops <= {"blobs", "records", "measurements"}
    assert Blobs(world.store).exists(output(done).tree)


def test_what_was_healed_before_a_kill_is_not_healed_again(
    world: SmallWorld, done: Outcome, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = settings(max_accuracy_drop=0.99)

    class Killed(BaseException):
        pass

    def killed(*_: object, **__: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(work, "_publish", killed)
        with pytest.raises(Killed):
            compress(world, config)
    assert list(world.store.list("checkpoints/"))
    with monkeypatch.context() as patch:
        patch.setattr(work, "finetune", killed)
        again = compress(world, config)
    assert again.state == "done"
    assert output(again).candidates == output(done).candidates
    assert not list(world.store.list("checkpoints/"))


def test_a_damaged_healed_network_is_healed_again(
    world: SmallWorld, done: Outcome, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = healed.keep

    def damaged(student: Any, ratio: float, context: Any) -> None:
        real(student, ratio, context)
        (name,) = (info.key for info in context.store.list("checkpoints/"))
        context.store.put(name, b'{"tree": "sha256:0"}')
        raise KeyboardInterrupt

    config = settings(max_accuracy_drop=0.98)
    with monkeypatch.context() as patch:
        patch.setattr(healed, "keep", damaged)
        with pytest.raises(KeyboardInterrupt):
            compress(world, config)
    assert output(compress(world, config)).candidates == output(done).candidates
