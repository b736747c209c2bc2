"""The compression section: every candidate against the original, and why one was taken."""

from typing import Any

from components.common.refs import CompressedRef, EvaluationRef, ModelRef, ShardsRef
from components.compress.choose import allowed_drop, fits
from components.evaluate.html.charts import trade_off_chart
from pipelines.reporting.gather import RunView, StepView
from pipelines.summary import BYTES_PER_WEIGHT, percent, size

ORIGINAL = "original"


def compression_context(view: RunView) -> dict[str, Any] | None:
    """What `compression.html.j2` shows; None where nothing was compressed."""
    found = view.of(CompressedRef)
    if found is None:
        return None
    compressed, step = found
    latency = step.measurements.get("latency", {})
    baseline, drop = _limits(view, compressed, step)
    original = _original(view, latency)
    rows = [_row(c, compressed.chosen, latency, original, baseline, drop) for c in compressed.candidates]
    chosen = next(row for row in rows if row["chosen"])
    details = view.document(step, "candidates.json") or {}
    points = [row for row in rows if row["latency_ms"] is not None]
    return {
        "rows": rows,
        "chosen": chosen,
        "original": original,
        "drop": f"{drop * 100:.2f} points",
        "baseline": percent(baseline),
        "conditions": step.measurements.get("latency_conditions", {}),
        "dropped": details.get("dropped", {}),
        "chart": trade_off_chart(
            points,
            floor=baseline - drop,
            original=original if original and original["latency_ms"] is not None else None,
        )
        if points
        else None,
    }


def _limits(view: RunView, compressed: CompressedRef, step: StepView) -> tuple[float, float]:
    """Accuracy of the uncompressed network as ONNX (the first candidate), and how much may be lost."""
    shards = view.of(ShardsRef)
    num_validation = shards[0].splits.get("val", 0) if shards else 0
    setting = step.record.config.get("max_accuracy_drop")
    return compressed.candidates[0].accuracy_validation, allowed_drop(setting, num_validation)


def _original(view: RunView, latency: dict[str, Any]) -> dict[str, Any] | None:
    found = view.of(ModelRef)
    if found is None:
        return None
    model = found[0]
    evaluation = view.of(EvaluationRef)
    test = evaluation[0].metrics["accuracy"] if evaluation and evaluation[0].split == "test" else None
    size_bytes = BYTES_PER_WEIGHT * model.num_parameters
    return {
        "name": ORIGINAL,
        "architecture": model.architecture,
        "accuracy": model.val_accuracy,
        "accuracy_validation": percent(model.val_accuracy),
        "accuracy_test": percent(test) if test is not None else "–",
        "num_parameters": f"{model.num_parameters:,}",
        "size_bytes": size_bytes,
        "size": size(size_bytes),
        **_latencies(latency.get(ORIGINAL, {})),
    }


def _row(
    candidate: Any,
    chosen: str,
    latency: dict[str, Any],
    original: dict[str, Any] | None,
    baseline: float,
    drop: float,
) -> dict[str, Any]:
    times = _latencies(latency.get(candidate.name, {}))
    speedup = smaller = None
    if original and original["latency_ms"] and times["latency_ms"]:
        speedup = original["latency_ms"] / times["latency_ms"]
    if original:
        smaller = original["size_bytes"] / candidate.size_bytes
    return {
        "name": candidate.name,
        "precision": candidate.precision,
        "pruned": f"{candidate.pruned * 100:.0f} %" if candidate.pruned else "–",
        "num_parameters": f"{candidate.num_parameters:,}",
        "accuracy": candidate.accuracy_validation,
        "accuracy_validation": percent(candidate.accuracy_validation),
        "accuracy_test": percent(candidate.accuracy),
        "size_bytes": candidate.size_bytes,
        "size": size(candidate.size_bytes),
        "smaller": _times(smaller),
        "faster": _times(speedup),
        "chosen": candidate.name == chosen,
        "allowed": fits(candidate.accuracy_validation, baseline=baseline, drop=drop),
        **times,
    }


def _latencies(by_batch: dict[str, Any]) -> dict[str, Any]:
    """Milliseconds as numbers (batch 1, for the plot) and as text."""
    one, many = by_batch.get("batch_1"), by_batch.get("batch_32")
    return {
        "latency_ms": float(one["p50_ms"]) if one else None,
        "batch_1": _pair(one),
        "batch_32": _pair(many),
    }


def _pair(latency: dict[str, Any] | None) -> dict[str, str] | None:
    if latency is None:
        return None
    return {"p50": milliseconds(latency["p50_ms"]), "p95": milliseconds(latency["p95_ms"])}


def milliseconds(value: float) -> str:
    """Three digits: 0.123, 12.3."""
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


def _times(ratio: float | None) -> str:
    return "–" if ratio is None else f"{ratio:.1f} ×"
