"""The plots of the reports, each a function from plain numbers to one `<svg>`."""

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from components.evaluate.html.plot import Format, Plot, clip, percent, plain
from components.evaluate.html.scale import padded

UNIT = (0.0, 1.0)
THIRD = 320
"""Width of a plot of which three stand side by side, so that its letters keep their size."""


def history_chart(
    series: Mapping[str, Sequence[float]],
    *,
    y_label: str,
    y_format: Format = plain,
    from_zero: bool = False,
    first: int = 1,
) -> Markup:
    """Lines over epochs; `series` is name → one value per epoch."""
    longest = max(len(values) for values in series.values())
    everything = [value for values in series.values() for value in values]
    low, high = padded(everything, at_least=1e-6 + 1e-3 * abs(max(everything)))
    if from_zero:
        low = 0.0
    plot = Plot(
        (first, max(first + longest - 1, first + 1)),
        (low, high),
        x_label="epoch",
        y_label=y_label,
        y_format=y_format,
        x_format=lambda v: f"{v:.0f}" if v == int(v) else "",
        legend_rows=1 if len(series) > 1 else 0,
        left=58,
        width=THIRD,
        height=240,
    )
    for i, (name, values) in enumerate(series.items(), start=1):
        points = [(first + epoch, value) for epoch, value in enumerate(values)]
        plot.line(points, f"s{i}", name=name if len(series) > 1 else None)
        if len(points) <= 30:
            for x, y in points:
                plot.dot(x, y, f"s{i}", tip=f"epoch {x}: {y:.5g}", radius=2.5)
    ends = ", ".join(f"{name} ends at {values[-1]:.4g}" for name, values in series.items() if values)
    return plot.render(f"{y_label} over {longest} epochs: {ends}")


def curves_chart(
    curves: Mapping[str, Any], *, x_label: str, y_label: str, figure: str, diagonal: bool
) -> Markup:
    """The mean curve over all classes and those of the weakest classes (`roc` or `precision_recall` of metrics.json)."""
    rows = (len(curves["classes"]) + 2) // 2
    plot = Plot(UNIT, (0.0, 1.02), x_label=x_label, y_label=y_label, legend_rows=rows, height=270 + 18 * rows)
    if diagonal:
        plot.line([(0, 0), (1, 1)], "chance")
    for i, entry in enumerate(curves["classes"], start=2):
        name = f"{clip(entry['class'], 14)} {entry[figure]:.4f}"
        plot.line(list(zip(entry["x"], entry["y"], strict=True)), f"thin s{i}", name=name)
    macro = curves["macro"]
    plot.line(list(zip(macro["x"], macro["y"], strict=True)), "s1", name="mean of all")
    worst = f"; the weakest class is {curves['classes'][0]['class']}" if curves["classes"] else ""
    return plot.render(f"{y_label} against {x_label}{worst}")


def reliability_chart(bins: Sequence[Mapping[str, float]], *, ece: float, num_bins: int = 15) -> Markup:
    """Accuracy per bin of confidence, against the diagonal of perfect calibration."""
    plot = Plot(
        UNIT,
        (0.0, 1.02),
        x_label="confidence",
        y_label="accuracy",
        x_format=percent,
        y_format=percent,
        width=THIRD,
        height=250,
    )
    for entry in bins:
        left = entry["upper"] - 1 / num_bins
        tip = f"{entry['count']:.0f} images: confidence {percent(entry['confidence'])}, right {percent(entry['accuracy'])}"
        claimed, right = entry["confidence"], entry["accuracy"]
        sides = (left + 0.004, entry["upper"] - 0.004)
        plot.bar(sides, (0, min(right, claimed)), "s1 soft", tip=tip)
        # The gap between what was claimed and what was true is what the error adds up.
        plot.bar(sides, (right, claimed), "over" if claimed > right else "under", tip=tip)
    plot.line([(0, 0), (1, 1)], "chance")
    return plot.render(f"Reliability diagram; expected calibration error {ece:.4f}")


def bins_chart(bins: Sequence[Mapping[str, float]], *, num_bins: int = 15) -> Markup:
    """How many images the model answers with which confidence."""
    highest = max((entry["count"] for entry in bins), default=1)
    plot = Plot(
        UNIT,
        (0.0, highest * 1.05),
        x_label="confidence",
        y_label="images",
        x_format=percent,
        width=THIRD,
        height=250,
    )
    for entry in bins:
        left = entry["upper"] - 1 / num_bins
        plot.bar(
            (left + 0.004, entry["upper"] - 0.004),
            (0, entry["count"]),
            "s1",
            tip=f"{entry['count']:.0f} images",
        )
    return plot.render("Number of images by confidence")


def trade_off_chart(
    points: Sequence[Mapping[str, Any]], *, floor: float | None, original: Mapping[str, Any] | None
) -> Markup:
    """Accuracy against latency (logarithmic): each candidate, the best line through them, the chosen one.

    A point has name, latency_ms, accuracy, chosen (bool) and allowed (bool). `floor` is the least accuracy allowed.
    """
    everything = [*points, *([original] if original else [])]
    accuracies = [p["accuracy"] for p in everything] + ([floor] if floor is not None else [])
    latencies = [p["latency_ms"] for p in everything]
    low, high = padded(accuracies, share=0.12, at_least=0.002)
    plot = Plot(
        (min(latencies) / 1.35, max(latencies) * 1.5),
        (low, min(high, 1.004)),
        x_label="latency of one image, ms (logarithmic)",
        y_label="accuracy on validation",
        y_format=percent,
        width=720,
        height=340,
        log_x=True,
        legend_rows=1,
        left=66,
    )
    if floor is not None:
        plot.line([(plot.x.low, floor), (plot.x.high, floor)], "chance")
        plot.text(plot.x.high, floor, "least accuracy allowed", anchor="end", dx=-4, dy=-5)
    front = pareto(points)
    if len(front) > 1:
        plot.line([(p["latency_ms"], p["accuracy"]) for p in front], "thin front")
    for p in points:
        css = "chosen" if p["chosen"] else "s1" if p["allowed"] else "refused"
        tip = f"{p['name']}: {percent(p['accuracy'])}, {p['latency_ms']:.3g} ms"
        plot.dot(p["latency_ms"], p["accuracy"], css, tip=tip, radius=7 if p["chosen"] else 5)
    labelled: list[tuple[float, float]] = []
    for p in sorted(everything, key=lambda p: (not p.get("chosen"), p is not original, p["latency_ms"])):
        _label(plot, p, labelled)
    if original:
        tip = f"original: {percent(original['accuracy'])}, {original['latency_ms']:.3g} ms"
        plot.dot(original["latency_ms"], original["accuracy"], "s2", tip=tip, radius=6)
        plot.key("original (torch)", "s2")
    plot.key("candidate", "s1")
    plot.key("chosen", "chosen")
    if any(not p["allowed"] for p in points):
        plot.key("loses too much", "refused")
    chosen = next((p for p in points if p["chosen"]), None)
    words = f"; chosen is {chosen['name']} with {chosen['latency_ms']:.3g} ms" if chosen else ""
    return plot.render(f"Accuracy against latency of {len(points)} candidates{words}")


def pareto(points: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The points that no other beats in both latency and accuracy, by latency."""
    front: list[Mapping[str, Any]] = []
    for point in sorted(points, key=lambda p: (p["latency_ms"], -p["accuracy"])):
        if not front or point["accuracy"] > front[-1]["accuracy"]:
            front.append(point)
    return front


def _label(plot: Plot, point: Mapping[str, Any], taken: list[tuple[float, float]]) -> None:
    """Name a point, above or below it, where no other name stands; else leave it to the tip and the table."""
    x, y = plot.x(point["latency_ms"]), plot.y(point["accuracy"])
    for dy in (-11.0, 19.0):
        if all(abs(x - other_x) > 96 or abs(y + dy - other_y) > 13 for other_x, other_y in taken):
            if not plot.y.end - 2 <= y + dy <= plot.y.start - 2:
                continue
            anchor = "end" if x > plot.x.end - 60 else "start" if x < plot.x.start + 60 else "middle"
            plot.text(point["latency_ms"], point["accuracy"], clip(point["name"], 22), dy=dy, anchor=anchor)
            taken.append((x, y + dy))
            return
