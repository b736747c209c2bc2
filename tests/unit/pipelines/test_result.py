"""The contract of `run --json` and the summary, from outcomes of every kind."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from components.common.canonical import digest_bytes
from components.common.errors import InputError, StepError
from components.common.refs import (
    Candidate,
    CompressedRef,
    EvaluationRef,
    ModelRef,
    PromotionRef,
    Ref,
    SnapshotRef,
)
from components.common.step import Outcome
from pipelines.result import Run, refused_before_start
from pipelines.summary import summary

DIGEST = digest_bytes(b"x")
SCHEMA = json.loads((Path(__file__).parents[3] / "docs" / "run.schema.json").read_text())


def outcome(step: str, output: Ref, **measurements: Any) -> Outcome:
    return Outcome(step, "0" * 64, "done", 1.0, output, measurements)


def snapshot() -> SnapshotRef:
    return SnapshotRef(
        tree=DIGEST,
        dataset="d",
        classes=("a", "b"),
        num_accepted=1796,
        num_quarantined=3,
        num_duplicates=1,
        reasons={"truncated": 2, "too_small": 1},
        splits={"train": 1400, "val": 196, "test": 200},
        channels=1,
        median_height=8,
        median_width=8,
    )


def model() -> ModelRef:
    return ModelRef(
        tree=DIGEST,
        shards=DIGEST,
        architecture="lenet",
        weights=DIGEST,
        classes=("a", "b"),
        image_size=16,
        stored_size=16,
        channels=1,
        mean=(0.5,),
        std=(0.5,),
        epochs=3,
        num_parameters=65_000,
        val_accuracy=0.98,
    )


def compressed() -> CompressedRef:
    def candidate(name: str, size_bytes: int) -> Candidate:
        return Candidate(
            name=name,
            model=DIGEST,
            precision="fp32",
            pruned=0.0,
            size_bytes=size_bytes,
            num_parameters=10,
            accuracy_validation=0.98,
            accuracy=0.97,
        )

    return CompressedRef(
        tree=DIGEST,
        source=DIGEST,
        candidates=(candidate("fp32", 260_000), candidate("int8", 26_000)),
        chosen="int8",
        classes=("a", "b"),
        image_size=16,
        stored_size=16,
        channels=1,
        mean=(0.5,),
        std=(0.5,),
    )


def promotion(promoted: bool) -> PromotionRef:
    return PromotionRef(
        tree=DIGEST,
        registry="d",
        promoted=promoted,
        model_version=2,
        model=DIGEST,
        champion_before=1,
        gates={"accuracy": promoted},
        reason="it is worse than the champion",
    )


LATENCY = {"original": {"batch_1": {"p50_ms": 1.0}}, "int8": {"batch_1": {"p50_ms": 0.1}}}


@pytest.fixture
def whole() -> Run:
    """A run of every step, with a promotion."""
    metrics = {"accuracy": 0.975, "accuracy_low": 0.95, "accuracy_high": 0.99}
    evaluation = EvaluationRef(tree=DIGEST, model=DIGEST, split="test", num_samples=200, metrics=metrics)
    outcomes = {
        "ingest": outcome("ingest", snapshot()),
        "train": outcome("train", model()),
        "evaluate": outcome("evaluate", evaluation),
        "compress": outcome("compress", compressed(), latency=LATENCY),
        "promote": outcome("promote", promotion(True)),
    }
    return Run("r", "file:///s", outcomes, seconds=6.5, report="/s/runs/r/report.html")


def checked(value: dict[str, Any]) -> dict[str, Any]:
    jsonschema.validate(value, SCHEMA)
    return json.loads(json.dumps(value, allow_nan=False))  # type: ignore[no-any-return]


def test_a_whole_run(whole: Run) -> None:
    value = checked(whole.to_json())
    assert value["ingest"] == {
        "accepted": 1796,
        "quarantined": 3,
        "reasons": {"truncated": 2, "too_small": 1},
        "duplicates": 1,
    }
    assert value["compressed"]["chosen"]["latency_ms"] == 0.1
    assert value["compressed"]["candidates"][0]["latency_ms"] is None
    assert value["model"] == {"version": 2, "digest": DIGEST}
    assert value["promoted"] is True
    assert whole.exit_code() == 0
    assert whole.overhead_seconds() == pytest.approx(1.5)


def test_a_refused_promotion_succeeds_with_status_4(whole: Run) -> None:
    whole.outcomes["promote"] = outcome("promote", promotion(False))
    value = checked(whole.to_json())
    assert (value["state"], value["promoted"], whole.exit_code()) == ("succeeded", False, 4)
    assert "it is worse than the champion" in summary(whole)


@pytest.mark.parametrize("kept", range(5))
def test_a_run_that_failed_half_way_keeps_the_contract(whole: Run, kept: int) -> None:
    failed = list(whole.outcomes)[kept]
    whole.outcomes = dict(list(whole.outcomes.items())[:kept])
    whole.failed_step, whole.error = failed, StepError("broken", todo="mend it")
    value = checked(whole.to_json())
    assert value["error"] == {
        "step": failed,
        "what": "broken",
        "where": None,
        "expected": None,
        "found": None,
        "todo": "mend it",
        "exit_code": 3,
    }
    assert value["steps"][failed]["state"] == "failed"
    assert whole.exit_code() == 3
    assert "stopped" in summary(whole)


def test_wrong_settings_keep_the_contract() -> None:
    value = checked(refused_before_start(InputError("unknown setting x"), None))
    assert (value["run"], value["store"], value["error"]["exit_code"]) == (None, None, 2)


def test_the_summary_says_what_a_person_wants_to_know(whole: Run) -> None:
    text = summary(whole)
    assert "1,796 accepted, 1 duplicate left out, 3 quarantined (too_small 1, truncated 2)" in text
    assert "97.50 % (95 % interval 95.00 % to 99.00 %)" in text
    assert "int8, 97.00 % on test" in text
    assert "0.1 ms an image, original 1 ms (10.0 × faster)" in text
    assert "26 kB, original 260 kB (10.0 × smaller)" in text
    assert "d version 2 is the champion" in text
    assert "/s/runs/r/report.html" in text
    assert "\033" not in text
    assert "\033[1m" in summary(whole, colour=True)
