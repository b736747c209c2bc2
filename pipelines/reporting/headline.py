"""What the page says first: the verdict and the few figures behind it."""

import re
from typing import Any

from components.common.refs import CompressedRef, EvaluationRef, ModelRef, PromotionRef, SnapshotRef
from components.evaluate.html.evaluation import accuracy_range
from components.evaluate.html.page import count, sentence, share
from pipelines.reporting.compression import milliseconds
from pipelines.reporting.gather import RunView

# A number and its unit stay on one line.
UNIT = re.compile(r"(\d) (ms|B|kB|MB|GB|%|×)")


def verdict(view: RunView) -> dict[str, str]:
    """Kind (good, warn, bad), one sentence, and the reason."""
    if view.error:
        todo = view.error.get("todo")
        where = f"The run stopped in {view.failed_step}" if view.failed_step else "The run stopped"
        why = str(view.error.get("what", ""))
        return {"kind": "bad", "what": where, "why": f"{why}. To do: {todo}" if todo else why}
    found = view.of(PromotionRef)
    if found is None:
        last = list(view.steps)[-1]
        return {
            "kind": "warn",
            "what": "Nothing was promoted",
            "why": f"The run ends after {last}: this report shows what there is.",
        }
    promotion = found[0]
    name = f"{promotion.registry} version {promotion.model_version}"
    if promotion.promoted:
        return {
            "kind": "good",
            "what": f"Promoted: {name} is the champion",
            "why": sentence(promotion.reason),
        }
    what = "Awaiting approval" if promotion.awaiting_approval else "Not promoted"
    return {"kind": "warn", "what": f"{what}: {name}", "why": sentence(promotion.reason)}


def tiles(
    view: RunView, document: dict[str, Any] | None, compression: dict[str, Any] | None
) -> list[dict[str, str]]:
    """The figures under the verdict."""
    found: list[dict[str, str]] = []
    evaluation, model, snapshot = view.of(EvaluationRef), view.of(ModelRef), view.of(SnapshotRef)
    if evaluation is not None:
        accuracy = evaluation[0].metrics["accuracy"]
        words = (
            f"uncompressed, 95 %: {accuracy_range(document)}"
            if document
            else f"{evaluation[0].num_samples:,} images"
        )
        found.append(_tile("Test accuracy", share(accuracy), words))
    elif model is not None:
        found.append(_tile("Validation accuracy", share(model[0].val_accuracy), model[0].architecture))
    if compression is not None:
        found += _compression_tiles(view, compression)
    if snapshot is not None:
        ref = snapshot[0]
        aside = [f"{ref.num_quarantined:,} quarantined"] if ref.num_quarantined else []
        aside += [count(ref.num_duplicates, "duplicate")] if ref.num_duplicates else []
        words = ", ".join(aside) or "none put aside"
        found.append(_tile("Images", f"{ref.num_accepted:,}", f"{len(ref.classes)} classes, {words}"))
    return found


def _compression_tiles(view: RunView, compression: dict[str, Any]) -> list[dict[str, str]]:
    chosen, original = compression["chosen"], compression["original"]
    compressed = view.of(CompressedRef)
    assert compressed is not None
    accuracy = compressed[0].chosen_candidate().accuracy
    tiles = [_tile("Compressed model", share(accuracy), f"{chosen['name']}, test accuracy")]
    if chosen["latency_ms"] is not None:
        words = "one image"
        if original and original["latency_ms"] is not None:
            words = f"{chosen['faster']} faster than {milliseconds(original['latency_ms'])} ms"
        tiles.append(_tile("Latency", f"{milliseconds(chosen['latency_ms'])} ms", words))
    words = f"{chosen['smaller']} smaller than {original['size']}" if original else ""
    tiles.append(_tile("Size", chosen["size"], words))
    return tiles


def _tile(name: str, value: str, more: str) -> dict[str, str]:
    return {"name": name, "value": value, "more": UNIT.sub("\\1\N{NO-BREAK SPACE}\\2", more)}
