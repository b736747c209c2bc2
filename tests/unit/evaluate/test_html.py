"""Scales and plots: round ticks, escaped text, shapes where the data is."""

import math
import re

import numpy as np
import pytest

from components.evaluate.html.charts import history_chart, pareto, trade_off_chart
from components.evaluate.html.grids import class_bars, confusion_map
from components.evaluate.html.page import count, data_uri, render, templates_digest
from components.evaluate.html.plot import Plot, clip, scientific
from components.evaluate.html.scale import Scale, nice_step, padded

NASTY = '<script>alert("1")</script>'


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, [0, 0.25, 0.5, 0.75, 1]),
        (0.913, 1.0, [0.925, 0.95, 0.975, 1.0]),
        (0, 1300, [0, 500, 1000]),
        (-2, 2, [-2, -1, 0, 1, 2]),
    ],
)
def test_ticks_are_round(low: float, high: float, expected: list[float]) -> None:
    assert Scale(low, high, 0, 100).ticks(4) == pytest.approx(expected)


@pytest.mark.parametrize(("low", "high"), [(0.02, 1.1), (0.5, 0.9), (3, 20_000), (0.011, 0.013)])
def test_logarithmic_ticks_are_inside(low: float, high: float) -> None:
    ticks = Scale(low, high, 0, 100, log=True).ticks()
    assert all(low <= tick <= high for tick in ticks)


def test_scale_maps_ends_and_middle() -> None:
    scale = Scale(1, 100, 0, 200, log=True)
    assert [scale(1), scale(10), scale(100)] == [0, 100, 200]
    assert Scale(5, 5, 0, 10)(5) == 5


def test_helpers() -> None:
    assert nice_step(0, 5) == 1
    assert math.isclose(nice_step(0.7, 7), 0.1)
    low, high = padded([3.0])
    assert low < 3 < high
    assert scientific(0.0005) == "5e-4"
    assert scientific(0.25) == "0.25"
    assert clip("a\n b" + "c" * 50, 10) == "a bcccccc…"
    assert count(1, "image") == "1 image"
    assert count(1200, "class", "classes") == "1,200 classes"
    assert data_uri(b"\xff\xd8x").startswith("data:image/jpeg;base64,")


def test_every_text_of_a_plot_is_escaped() -> None:
    plot = Plot((0, 1), (0, 1), x_label=NASTY, y_label=NASTY, legend_rows=1)
    plot.line([(0, 0), (1, 1)], "s1", name=NASTY)
    plot.dot(0.5, 0.5, "s2", tip=NASTY)
    plot.bar((0, 1), (0, 1), "s3", tip=NASTY)
    plot.text(0.5, 0.5, NASTY)
    plot.key(NASTY, "s4")
    drawn = str(plot.render(NASTY)) + str(class_bars({NASTY: [1, 2]}, (NASTY, "b")))
    matrix = confusion_map(np.array([[3, 1], [0, 2]]), [NASTY, "x"])
    assert "<script" not in drawn + str(matrix)
    assert "&lt;script&gt;" in drawn


def test_confusion_map_draws_only_cells_that_hold_something() -> None:
    drawn = str(confusion_map(np.array([[3, 0], [1, 4]]), ["a", "b"]))
    assert len(re.findall("<rect", drawn)) == 3
    assert "b → a: 1 of 5" in drawn
    assert "1 mistakes of 8" in drawn


def test_confusion_map_gives_up_where_it_cannot_be_read() -> None:
    assert confusion_map(np.eye(51, dtype=np.int64), [str(i) for i in range(51)]) is None


def test_history_of_one_epoch() -> None:
    assert "<svg" in history_chart({"training": [0.5]}, y_label="loss")


def test_pareto() -> None:
    points = [
        {"latency_ms": latency, "accuracy": accuracy}
        for latency, accuracy in [(1, 0.9), (2, 0.8), (2, 0.95), (3, 0.95), (0.5, 0.5)]
    ]
    assert [p["latency_ms"] for p in pareto(points)] == [0.5, 1, 2]


def test_trade_off_of_a_single_candidate() -> None:
    point = {"name": "fp32", "latency_ms": 0.3, "accuracy": 1.0, "chosen": True, "allowed": True}
    drawn = trade_off_chart([point], floor=None, original=None)
    assert "chosen is fp32" in drawn


def test_a_template_with_an_unknown_name_fails() -> None:
    with pytest.raises(Exception, match="undefined"):
        render("page.html.j2", {})


def test_templates_digest_is_stable() -> None:
    assert templates_digest() == templates_digest()
    assert len(templates_digest()) == 64
