"""The promotion section: each gate, and what it decided."""

from typing import Any

from components.common.refs import PromotionRef
from pipelines.reporting.gather import RunView


def promotion_context(view: RunView) -> dict[str, Any] | None:
    """What `promotion.html.j2` shows; None where nothing was to be promoted."""
    found = view.of(PromotionRef)
    if found is None:
        return None
    promotion = found[0]
    gates = [
        {"name": name.replace("_", " "), "passed": passed, "words": ""}
        for name, passed in promotion.gates.items()
    ]
    return {"promotion": promotion, "gates": gates}
