"""The promotion section: each gate, and what it decided."""

from collections.abc import Mapping
from typing import Any

from components.common.refs import PromotionRef
from pipelines.reporting.gather import RunView


def promotion_context(view: RunView) -> dict[str, Any] | None:
    """What `promotion.html.j2` shows; None where nothing was to be promoted."""
    found = view.of(PromotionRef)
    if found is None:
        return None
    promotion, step = found
    told = {gate["name"]: gate for gate in (view.document(step, "gates.json") or {}).get("gates", [])}
    clocks = step.measurements.get("gates", {})
    gates = [
        {
            "name": name.replace("_", " "),
            "passed": passed,
            "words": told.get(name, {}).get("detail", ""),
            "measured": _measured(clocks.get(name, {})),
        }
        for name, passed in promotion.gates.items()
    ]
    return {"promotion": promotion, "gates": gates}


def _measured(values: Mapping[str, float]) -> str:
    """What clocks said: latencies in ms, ratios as they are."""
    return ", ".join(
        f"{name.removesuffix('_ms').replace('_', ' ')} {value:.3g}{' ms' if name.endswith('_ms') else ''}"
        for name, value in values.items()
    )
