"""Metrics against hand-computed values and against scikit-learn."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from components.models import calibration, curves, intervals, metrics

sklearn_metrics = pytest.importorskip("sklearn.metrics")

CASES = [(200, 2, 0.5), (500, 5, 1.0), (300, 40, 0.3), (64, 10, 4.0), (3, 3, 1.0)]


def random_case(
    num: int, num_classes: int, signal: float, seed: int = 0
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, num_classes, num)
    logits = rng.normal(size=(num, num_classes))
    logits[np.arange(num), labels] += signal
    # Few distinct values, so that ties occur.
    return np.round(logits, 1).astype(np.float32), labels


def test_softmax_of_huge_logits_stays_finite_and_sums_to_one() -> None:
    probabilities = metrics.softmax(np.array([[1000.0, 1000.0], [-1000.0, 1000.0]]))
    assert probabilities.tolist() == [[0.5, 0.5], [0.0, 1.0]]


def test_by_hand() -> None:
    labels = np.array([0, 0, 0, 1, 1, 2])
    predicted = np.array([0, 0, 1, 1, 1, 0])
    matrix = metrics.confusion_matrix(predicted, labels, 3)
    assert matrix.tolist() == [[2, 1, 0], [0, 2, 0], [1, 0, 0]]
    assert metrics.accuracy(predicted, labels) == pytest.approx(4 / 6)
    table = metrics.per_class(matrix)
    assert table.precision == pytest.approx([2 / 3, 2 / 3, 0])
    assert table.recall == pytest.approx([2 / 3, 1, 0])
    assert table.f1 == pytest.approx([2 / 3, 0.8, 0])
    assert table.support.tolist() == [3, 2, 1]
    assert metrics.macro_f1(matrix) == pytest.approx((2 / 3 + 0.8) / 3)
    assert metrics.balanced_accuracy(matrix) == pytest.approx((2 / 3 + 1) / 3)
    assert metrics.top_confusions(matrix, 5) == [(0, 1, 1), (2, 0, 1)]


@pytest.mark.parametrize(("num", "num_classes", "signal"), CASES)
def test_agrees_with_scikit_learn(num: int, num_classes: int, signal: float) -> None:
    logits, labels = random_case(num, num_classes, signal)
    predicted = metrics.predict_labels(logits)
    matrix = metrics.confusion_matrix(predicted, labels, num_classes)
    names = list(range(num_classes))
    assert matrix.tolist() == sklearn_metrics.confusion_matrix(labels, predicted, labels=names).tolist()
    theirs = sklearn_metrics.precision_recall_fscore_support(labels, predicted, labels=names, zero_division=0)
    table = metrics.per_class(matrix)
    for ours, expected in zip((table.precision, table.recall, table.f1, table.support), theirs, strict=True):
        assert ours == pytest.approx(expected)
    assert metrics.macro_f1(matrix) == pytest.approx(
        sklearn_metrics.f1_score(labels, predicted, average="macro", zero_division=0)
    )
    nll = calibration.sample_nll(logits, labels).mean()
    assert nll == pytest.approx(
        sklearn_metrics.log_loss(labels, metrics.softmax(logits), labels=names), rel=1e-6
    )
    areas, defined = metrics.roc_auc_per_class(logits, labels)
    for label in np.flatnonzero(defined):
        positive = labels == label
        assert areas[label] == pytest.approx(sklearn_metrics.roc_auc_score(positive, logits[:, label]))
        assert curves.average_precision(logits[:, label], positive) == pytest.approx(
            sklearn_metrics.average_precision_score(positive, logits[:, label])
        )
        fpr, tpr, _ = sklearn_metrics.roc_curve(positive, logits[:, label])
        curve = curves.roc_curve(logits[:, label], positive, max_points=10_000)
        grid = np.linspace(0, 1, 50)
        # Both drop points on straight stretches, so the lines are compared, area first.
        assert np.trapezoid(curve.y, curve.x) == pytest.approx(np.trapezoid(tpr, fpr))
        assert np.interp(grid[1:-1] + 1e-9, curve.x, curve.y) == pytest.approx(
            np.interp(grid[1:-1] + 1e-9, fpr, tpr), abs=1e-6
        )


@pytest.mark.parametrize("k", [1, 2, 5])
def test_top_k_agrees_with_scikit_learn_where_no_scores_are_equal(k: int) -> None:
    rng = np.random.default_rng(4)
    logits, labels = rng.normal(size=(300, 8)), rng.integers(0, 8, 300)
    assert metrics.top_k_accuracy(logits, labels, k) == pytest.approx(
        sklearn_metrics.top_k_accuracy_score(labels, logits, k=k, labels=list(range(8)))
    )


def test_top_one_is_the_predicted_label_even_with_ties() -> None:
    logits, labels = random_case(500, 4, 0.2)
    assert (metrics.top_k_correct(logits, labels, 1) == (metrics.predict_labels(logits) == labels)).all()


def test_top_five_of_three_classes_is_everything() -> None:
    logits, labels = random_case(30, 3, 0.0)
    assert metrics.top_k_accuracy(logits, labels, 5) == 1.0


def test_roc_auc_leaves_out_a_class_that_the_split_lacks() -> None:
    labels = np.array([0, 0, 1, 1])
    scores = np.array([[0.9, 0.1, 0.0], [0.4, 0.6, 0.0], [0.3, 0.7, 0.0], [0.5, 0.4, 0.1]])
    areas, defined = metrics.roc_auc_per_class(scores, labels)
    assert defined.tolist() == [True, True, False]
    assert metrics.roc_auc(scores, labels) == pytest.approx(areas[:2].mean())
    assert metrics.roc_auc(scores[:2], labels[:2]) is None


def test_no_samples_is_no_crash() -> None:
    nothing, labels = np.zeros((0, 3)), np.zeros(0, dtype=np.int64)
    assert metrics.accuracy(labels, labels) == 0.0
    assert metrics.top_k_accuracy(nothing, labels, 1) == 0.0
    assert metrics.macro_f1(metrics.confusion_matrix(labels, labels, 3)) == 0.0
    assert metrics.roc_auc(nothing, labels) is None
    assert calibration.reliability(nothing, labels).ece() == 0.0
    assert calibration.fit_temperature(nothing, labels) == 1.0
    assert intervals.bootstrap_mean(labels, num_resamples=10) == intervals.Interval(0, 0, 0)
    assert intervals.bootstrap_confusion(np.zeros((3, 3)), num_resamples=10).accuracy.high == 0


@pytest.mark.parametrize("make", [curves.roc_curve, curves.precision_recall_curve])
def test_curves_are_thin_finite_and_keep_their_ends(make: Callable[..., Any]) -> None:
    rng = np.random.default_rng(1)
    positive = rng.random(20_000) < 0.3
    scores = rng.normal(size=20_000) + positive
    curve, whole = make(scores, positive), make(scores, positive, max_points=10**6)
    assert len(curve.x) <= 200
    assert (curve.x[0], curve.x[-1]) == (0.0, 1.0)
    assert np.trapezoid(curve.y, curve.x) == pytest.approx(np.trapezoid(whole.y, whole.x), abs=2e-3)
    json.dumps([*curve.x, *curve.y, *curve.threshold], allow_nan=False)


def test_ece_by_hand() -> None:
    probabilities = np.array([[0.95, 0.05], [0.95, 0.05], [0.45, 0.55], [0.45, 0.55]])
    table = calibration.reliability(probabilities, np.array([0, 1, 1, 1]), num_bins=10)
    assert table.count.tolist() == [0, 0, 0, 0, 0, 2, 0, 0, 0, 2]
    assert table.accuracy[[5, 9]].tolist() == [1.0, 0.5]
    # half the samples are 0.45 off, half are 0.45 off the other way
    assert table.ece() == pytest.approx(0.45)


def test_confidence_of_exactly_one_is_in_the_last_bin() -> None:
    table = calibration.reliability(np.array([[1.0, 0.0]]), np.array([0]))
    assert table.count.tolist() == [0] * 14 + [1]


def test_temperature_is_recovered() -> None:
    rng = np.random.default_rng(2)
    logits = rng.normal(size=(20_000, 5)) * 2
    draws = metrics.softmax(logits).cumsum(axis=1)
    labels = (rng.random((20_000, 1)) > draws).sum(axis=1)
    assert calibration.fit_temperature(logits * 3, labels) == pytest.approx(3.0, rel=0.05)
    assert calibration.fit_temperature(logits * 3, labels) == calibration.fit_temperature(logits * 3, labels)


def test_temperature_of_a_faultless_model_is_the_lower_end() -> None:
    assert calibration.fit_temperature(np.eye(4) * 5, np.arange(4)) == pytest.approx(0.05, abs=1e-3)


def test_bootstrap_of_accuracy_agrees_with_the_binomial() -> None:
    correct = np.arange(400) < 340
    found = intervals.bootstrap_mean(correct, num_resamples=4000)
    half = 1.96 * np.sqrt(0.85 * 0.15 / 400)
    assert found.value == 0.85
    assert (found.low, found.high) == pytest.approx((0.85 - half, 0.85 + half), abs=0.006)
    low, high = intervals.wilson_interval(340, 400)
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.008)


def test_bootstrap_is_deterministic_and_independent_of_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    correct = np.arange(101) % 3 > 0
    whole = intervals.bootstrap_mean(correct, num_resamples=200)
    monkeypatch.setattr(intervals, "BLOCK_DRAWS", 101 * 7)
    assert intervals.bootstrap_mean(correct, num_resamples=200) == whole
    assert intervals.bootstrap_mean(correct, num_resamples=200, seed=1) != whole


def test_resampled_cells_equal_resampled_samples() -> None:
    logits, labels = random_case(300, 4, 1.0)
    predicted = metrics.predict_labels(logits)
    # In cell order the two ways draw the same samples with the same seed.
    order = np.lexsort((predicted, labels))
    labels, predicted = labels[order], predicted[order]
    matrix = metrics.confusion_matrix(predicted, labels, 4)
    found = intervals.bootstrap_confusion(matrix, num_resamples=500)
    assert found.accuracy == intervals.bootstrap_mean(predicted == labels, num_resamples=500)
    assert found.macro_f1.low < metrics.macro_f1(matrix) < found.macro_f1.high


def test_wilson_interval_of_a_faultless_model_is_not_a_point() -> None:
    low, high = intervals.wilson_interval(180, 180)
    assert high == 1.0
    assert low == pytest.approx(0.979, abs=0.001)
    assert intervals.wilson_interval(0, 0) == (0.0, 1.0)
    lows, highs = intervals.wilson_bounds(np.array([180, 3, 0]), np.array([180, 10, 0]))
    assert lows == pytest.approx([low, 0.108, 0.0], abs=0.001)
    assert highs == pytest.approx([1.0, 0.603, 1.0], abs=0.001)
