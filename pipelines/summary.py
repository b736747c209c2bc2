"""The last words of a run, for a person."""

from collections.abc import Mapping
from typing import Any

from components.common.refs import CompressedRef, ModelRef, PromotionRef
from pipelines.result import Run, latency_ms

BYTES_PER_WEIGHT = 4


def summary(run: Run, *, colour: bool = False) -> str:
    """A few aligned lines: accuracy, the compressed model against the original, promotion, report."""
    result = run.to_json()
    if run.unchanged:
        return f"nothing has changed since run {run.run_id}: nothing to do ({_duration(run.seconds)})\n"
    rows: list[tuple[str, str]] = []
    if result["ingest"] is not None:
        rows.append(("images", _images(result["ingest"])))
    if result["metrics"] is not None:
        rows.append(("test accuracy", _accuracy(result["metrics"])))
    if result["compressed"] is not None:
        rows += _compressed(run, result["compressed"]["chosen"])
    if result["model"] is not None:
        rows.append((_verdict(result), _promotion(run)))
    if result["report"] is not None:
        rows.append(("report", result["report"]))
    reused = sum(step["state"] == "reused" for step in result["steps"].values())
    note = f", {reused} of {len(result['steps'])} steps reused" if reused else ""
    state = "succeeded" if run.error is None else "stopped"
    head = f"run {run.run_id} {state} in {_duration(run.seconds)}{note}"
    if colour:
        head = f"\033[1m{head}\033[0m"
    width = max((len(name) for name, _ in rows), default=0)
    return "\n".join([head, *(f"  {name:<{width}}  {text}" for name, text in rows)]) + "\n"


def _images(ingest: Mapping[str, Any]) -> str:
    text = f"{ingest['accepted']:,} accepted"
    if ingest["duplicates"]:
        text += f", {ingest['duplicates']:,} duplicate{'s' if ingest['duplicates'] != 1 else ''} left out"
    if ingest["quarantined"]:
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in sorted(ingest["reasons"].items()))
        text += f", {ingest['quarantined']:,} quarantined ({reasons})"
    return text


def _accuracy(metrics: Mapping[str, float]) -> str:
    text = percent(metrics["accuracy"])
    if "accuracy_low" in metrics and "accuracy_high" in metrics:
        text += f" (95 % interval {percent(metrics['accuracy_low'])} to {percent(metrics['accuracy_high'])})"
    return text


def _compressed(run: Run, chosen: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The chosen candidate against the network that it was made from."""
    rows = [("compressed", f"{chosen['name']}, {percent(chosen['accuracy'])} on test")]
    found, trained = run.outcome_of(CompressedRef), run.outcome_of(ModelRef)
    assert found is not None
    original = latency_ms(found[1].measurements, "original")
    if chosen["latency_ms"] is not None:
        text = f"{chosen['latency_ms']:.3g} ms an image"
        if original is not None:
            text += f", original {original:.3g} ms ({original / chosen['latency_ms']:.1f} × faster)"
        rows.append(("latency", text))
    text = size(chosen["size_bytes"])
    if trained is not None:
        weights = BYTES_PER_WEIGHT * trained[0].num_parameters
        text += f", original {size(weights)} ({weights / chosen['size_bytes']:.1f} × smaller)"
    return [*rows, ("size", text)]


def _verdict(result: Mapping[str, Any]) -> str:
    if result["awaiting_approval"]:
        return "awaiting approval"
    return "promoted" if result["promoted"] else "not promoted"


def _promotion(run: Run) -> str:
    found = run.outcome_of(PromotionRef)
    assert found is not None
    promotion = found[0]
    if promotion.promoted:
        return f"{promotion.registry} version {promotion.model_version} is the champion"
    if promotion.awaiting_approval:
        return (
            f"{promotion.registry} version {promotion.model_version} passed the gates: "
            f"conveyor models promote {promotion.model_version} makes it the champion"
        )
    return f"{promotion.registry} version {promotion.model_version}: {promotion.reason}"


def percent(share: float) -> str:
    return f"{100 * share:.2f} %"


def size(num_bytes: float) -> str:
    for unit in ("B", "kB", "MB"):
        if num_bytes < 1000:
            return f"{num_bytes:.3g} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:.3g} GB"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"
