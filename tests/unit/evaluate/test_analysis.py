"""`metrics.json`: what it says, and that JSON can hold it."""

import json

import numpy as np
import pytest

from components.common.canonical import canonical_json
from components.evaluate.analysis import analyse, summary_metrics, worst_errors
from components.models.inference import Outputs
from support.reported_run import random_outputs

CLASSES = ("a", "b", "c")


def outputs(labels: list[int], answers: list[int], num_classes: int = 3, sure: float = 4.0) -> Outputs:
    logits = np.zeros((len(labels), num_classes), np.float32)
    logits[np.arange(len(labels)), answers] = sure
    return Outputs(logits, np.array(labels), np.arange(len(labels)))


def test_by_hand() -> None:
    found = analyse(
        outputs([0, 0, 1, 1, 2], [0, 1, 1, 1, 0]), CLASSES, split="test", num_resamples=100, validation=None
    )
    assert found["num_samples"] == 5
    assert found["confusion_matrix"] == [[1, 1, 0], [0, 2, 0], [1, 0, 0]]
    assert found["metrics"]["accuracy"]["value"] == 0.6
    assert found["metrics"]["accuracy"]["low"] <= 0.6 <= found["metrics"]["accuracy"]["high"]
    assert found["metrics"]["balanced_accuracy"]["value"] == 0.5
    assert found["per_class"][1]["precision"]["value"] == pytest.approx(2 / 3, abs=1e-6)
    assert found["per_class"][2] == found["per_class"][2] | {"support": 1, "f1": 0.0}
    assert found["top_confusions"] == [[0, 1, 1], [2, 0, 1]]
    assert "top5" not in found["metrics"]
    assert found["calibration"]["temperature"] is None


def test_flat_figures_of_the_reference() -> None:
    found = analyse(random_outputs(300, 7, 2.0), tuple("abcdefg"), split="test", num_resamples=100)
    flat = summary_metrics(found)
    assert set(flat) >= {
        "accuracy",
        "accuracy_low",
        "accuracy_high",
        "top5",
        "macro_f1",
        "roc_auc",
        "ece",
        "loss",
    }
    assert flat["accuracy_low"] < flat["accuracy"] < flat["accuracy_high"]
    assert all(isinstance(value, float) for value in flat.values())
    three = summary_metrics(analyse(random_outputs(30, 3, 1.0), CLASSES, split="test", num_resamples=100))
    assert three["top5"] == 1.0


@pytest.mark.parametrize(
    "case",
    [
        outputs([0], [0]),
        outputs([0, 0, 0], [0, 0, 0]),
        outputs([1, 1], [2, 2]),
        outputs([0, 1, 2], [0, 1, 2], sure=1e4),
        outputs([0, 0, 1], [0, 1, 1]),  # a class that the split lacks
    ],
)
def test_strange_splits_are_still_json(case: Outputs) -> None:
    found = analyse(case, CLASSES, split="test", num_resamples=100, validation=case)
    json.loads(canonical_json(found), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


def test_same_outputs_same_bytes() -> None:
    one, two = (
        canonical_json(analyse(random_outputs(200, 4, 2.0), tuple("abcd"), split="test", num_resamples=200))
        for _ in range(2)
    )
    assert one == two


def test_curves_are_short_and_of_the_weakest_classes() -> None:
    found = analyse(random_outputs(5000, 12, 2.0), tuple("abcdefghijkl"), split="test", num_resamples=100)
    for kind, figure in (("roc", "auc"), ("precision_recall", "average_precision")):
        curves = found[kind]["classes"]
        assert len(curves) == 5
        assert [c[figure] for c in curves] == sorted(c[figure] for c in curves)
        assert max(len(c["x"]) for c in curves) <= 200
    assert len(found["roc"]["fpr"]) == len(found["roc"]["thresholds"]) <= 200
    macro = found["roc"]["macro"]
    assert np.trapezoid(macro["y"], macro["x"]) == pytest.approx(
        found["metrics"]["roc_auc"]["value"], abs=0.01
    )


def test_temperature_mends_the_calibration_of_another_split() -> None:
    cold = random_outputs(2000, 5, 3.0)
    sure = Outputs(cold.logits * 4, cold.labels, cold.indices)
    other = random_outputs(2000, 5, 3.0, seed=5)
    found = analyse(
        sure,
        tuple("abcde"),
        split="test",
        num_resamples=100,
        validation=Outputs(other.logits * 4, *_rest(other)),
    )
    calibration = found["calibration"]
    assert calibration["temperature"] > 1.5
    assert calibration["ece_scaled"] < calibration["ece"]
    assert calibration["loss_scaled"] < found["metrics"]["loss"]["value"]


def _rest(some: Outputs) -> tuple[np.ndarray, np.ndarray]:
    return some.labels, some.indices


def test_worst_errors_are_the_surest() -> None:
    some = outputs([0, 0, 0, 0], [1, 0, 2, 1])
    some.logits[2, 2] = 9.0
    assert worst_errors(some, 10) == [2, 0, 3]
    assert worst_errors(some, 1) == [2]
    assert worst_errors(some, 0) == []
