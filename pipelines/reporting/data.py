"""The data section: what came in, what was put aside and why, what the images look like."""

import io
from typing import Any

from PIL import Image

from components.common.refs import SPLITS, ShardsRef, SnapshotRef
from components.evaluate.html.grids import class_bars
from components.evaluate.html.page import data_uri
from pipelines.reporting.gather import RunView

MAX_BARS = 40
MAX_SUSPECTS = 10
MAX_SHEET_HEIGHT = 1600
MAX_SHEET_BYTES = 150_000
KINDS = {
    "near_duplicates_of_different_classes": "nearly the same picture under different classes",
    "names_differ_only_in_case_or_accents": "names that differ only in case or accents",
}


def data_context(view: RunView) -> dict[str, Any] | None:
    """What `data.html.j2` shows; None where nothing was ingested."""
    found = view.of(SnapshotRef)
    if found is None:
        return None
    snapshot, step = found
    summary = view.document(step, "summary.json") or {}
    classes = {
        name: [counts.get(split, 0) for split in SPLITS]
        for name, counts in summary.get("classes", {}).items()
    }
    suspects = summary.get("suspects", [])
    return {
        "snapshot": snapshot,
        "splits": {split: snapshot.splits.get(split, 0) for split in SPLITS},
        "held_out": summary.get("statuses", {}).get("held_out", 0),
        "reasons": _reasons(snapshot, summary),
        "duplicates": summary.get("duplicates", []),
        "bars": class_bars(classes, SPLITS, limit=MAX_BARS) if classes else None,
        "num_hidden": max(0, len(classes) - MAX_BARS),
        "suspects": [
            {"kind": KINDS.get(suspect["kind"], suspect["kind"]), "images": suspect["images"]}
            for suspect in suspects[:MAX_SUSPECTS]
        ],
        "num_suspects": len(suspects),
        "ignored": summary.get("ignored", {}),
        "notes": summary.get("notes", []),
        **_sheet(view),
    }


def _reasons(snapshot: SnapshotRef, summary: dict[str, Any]) -> list[dict[str, Any]]:
    told = summary.get("reasons", {})
    counts = {**snapshot.reasons, **{reason: entry["count"] for reason, entry in told.items()}}
    rows = []
    for reason, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        entry = told.get(reason, {})
        rows.append(
            {
                "reason": reason.replace("_", " "),
                "count": count,
                "cure": entry.get("cure") or "",
                "examples": entry.get("examples", [])[:3],
            }
        )
    return rows


def _sheet(view: RunView) -> dict[str, Any]:
    found = view.of(ShardsRef)
    if found is None:
        return {"sheet": None, "shards": None}
    shards, step = found
    picture = view.entry(step, "contact_sheet.png")
    return {"sheet": data_uri(_smaller(picture)) if picture else None, "shards": shards}


def _smaller(picture: bytes) -> bytes:
    """The upper part of a large sheet, as JPEG: the page has to stay something that one can send."""
    if len(picture) <= MAX_SHEET_BYTES:
        return picture
    with Image.open(io.BytesIO(picture)) as image:
        part = image.convert("RGB").crop((0, 0, image.width, min(image.height, MAX_SHEET_HEIGHT)))
    sink = io.BytesIO()
    part.save(sink, "JPEG", quality=82)
    return sink.getvalue()
