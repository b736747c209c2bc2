"""What the report says about a snapshot, and when too much of it is bad."""

from collections import Counter, defaultdict
from typing import Any

from components.common.errors import InputError
from components.ingest.contents import Contents
from components.ingest.labels import clashes
from components.ingest.manifest import Row

MAX_EXAMPLES = 8
MAX_SUSPECTS = 50

# What a person can do about each reason.
CURES = {
    "empty": "the file has no content; copy it again",
    "truncated": "the file was cut off; copy it again",
    "corrupt": "the file is damaged; copy or export it again",
    "not_an_image": "remove it, or give it a name that is not an image's",
    "unsupported_format": "convert it to PNG, JPEG, WebP, BMP or TIFF",
    "wrong_extension": "give it the extension of its content",
    "too_small": "remove it, or lower ingest.min_side",
    "too_large": "scale it down, or raise ingest.max_pixels",
    "changed": "it was being written; it is taken by the next run",
    "decoder_crash": "the decoder died on it; export it again",
    "dali_refused": "DALI cannot decode it; export it again",
    "decoders_differ": "two decoders see different pictures in it; export it again",
    "label_conflict": "the same picture stands under two classes; keep the right one",
    "no_class": "put it into a class's folder, or fix ingest.pattern",
}


def summarise(
    rows: list[Row], contents: Contents, ignored: dict[str, int], notes: list[str]
) -> dict[str, Any]:
    """The summary entry of the snapshot's tree: counts, examples by reason, suspects, what was not looked at."""
    by_reason: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if row.reason is not None:
            by_reason[row.reason].append(row)
    return {
        "version": 1,
        "statuses": dict(Counter(row.status for row in rows)),
        "formats": dict(Counter(contents.format[r.content] for r in rows if r.status == "accepted")),
        "classes": _classes(rows),
        "reasons": {
            reason: {
                "count": len(some),
                "cure": CURES.get(reason),
                "examples": [
                    {"source": row.name, "class": row.class_name, "detail": row.detail}
                    for row in some[:MAX_EXAMPLES]
                ],
            }
            for reason, some in sorted(by_reason.items())
        },
        "duplicates": [row.name for row in rows if row.status == "duplicate"][:MAX_EXAMPLES],
        "groups": sum(1 for num in Counter(_groups(rows)).values() if num > 1),
        "suspects": find_suspects(rows),
        "ignored": dict(sorted(ignored.items())),
        "notes": notes,
    }


def _groups(rows: list[Row]) -> list[int]:
    return [row.group for row in rows if row.status == "accepted" and row.group is not None]


def _classes(rows: list[Row]) -> dict[str, dict[str, int]]:
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        if row.class_name is not None:
            counts[row.class_name][row.split or row.status] += 1
    return {name: dict(sorted(count.items())) for name, count in sorted(counts.items())}


def find_suspects(rows: list[Row]) -> list[dict[str, Any]]:
    """What a person should look at, though nothing was done about it: near duplicates of different classes, and
    names that differ only in case or Unicode form."""
    members: dict[int, list[Row]] = defaultdict(list)
    for row in rows:
        if row.status == "accepted" and row.group is not None:
            members[row.group].append(row)
    suspects: list[dict[str, Any]] = []
    for _, some in sorted(members.items()):
        if len({row.class_name for row in some}) > 1:
            names = [{"source": row.name, "class": row.class_name} for row in some[:MAX_EXAMPLES]]
            suspects.append({"kind": "near_duplicates_of_different_classes", "images": names})
    for names_alike in clashes([row.name for row in rows]):
        images = [{"source": name} for name in names_alike[:MAX_EXAMPLES]]
        suspects.append({"kind": "names_differ_only_in_case_or_accents", "images": images})
    suspects.sort(key=lambda suspect: (suspect["kind"], suspect["images"][0]["source"]))
    return suspects[:MAX_SUSPECTS]


def refuse_too_much(rows: list[Row], max_share: float, source: str | None) -> None:
    """Raises `InputError` where no image is good, or more than `max_share` of them are bad."""
    bad = [row for row in rows if row.status == "quarantined"]
    if len(bad) < len(rows) and len(bad) <= max_share * len(rows):
        return
    reasons = Counter(row.reason or "" for row in bad)
    worst = reasons.most_common(4)
    lines = []
    for reason, num in worst:
        example = next(row for row in bad if row.reason == reason)
        lines.append(f"{num} × {reason} ({CURES.get(reason, '')}), such as {example.name}")
    share = len(bad) / len(rows)
    if len(bad) == len(rows):
        raise InputError(
            "not one image of the source can be used",
            where=source,
            found="; ".join(lines),
            todo=f"{CURES.get(worst[0][0], 'look at the files named above')}, then run again",
        )
    raise InputError(
        f"{len(bad)} of {len(rows)} images ({share:.1%}) are bad",
        where=source,
        expected=f"at most {max_share:.1%} (ingest.max_quarantined_share)",
        found="; ".join(lines),
        todo=f"mend or remove them, or accept the loss with --set ingest.max_quarantined_share={share + 0.01:.2f}",
    )
