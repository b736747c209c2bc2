"""Pictures made of cells and bars: the confusion matrix and counts per class."""

from collections.abc import Mapping, Sequence
from html import escape

from markupsafe import Markup

from components.evaluate.html.plot import clip, number, svg
from components.models.metrics import Ints

MAX_CLASSES = 50


def confusion_map(confusion: Ints, names: Sequence[str]) -> Markup | None:
    """Heat map with a row for each true class, shaded by the row's shares; None above 50 classes, where it says nothing."""
    size = len(names)
    if size > MAX_CLASSES:
        return None
    cell = 34.0 if size <= 12 else 24.0 if size <= 25 else 13.0
    limit = 14
    shown = [clip(name, limit) for name in names]
    margin = 26.0 + 6.4 * max(2, *map(len, shown))
    sums = confusion.sum(axis=1)
    parts = []
    for true in range(size):
        at = margin + cell * true
        parts.append(_text(margin - 6, at + cell / 2 + 4, shown[true], "end", full=names[true]))
        x = margin + cell * (true + 0.5) + 4
        parts.append(
            f'<text class="tick" transform="translate({number(x)} {number(margin - 6)})rotate(-90)">'
            f"<title>{escape(names[true])}</title>{escape(shown[true])}</text>"
        )
        for answer in range(size):
            count = int(confusion[true, answer])
            if count:
                tip = f"{names[true]} → {names[answer]}: {count} of {sums[true]}"
                share = count / sums[true]
                parts.append(
                    _cell(margin + cell * answer, at, cell, count, share, right=true == answer, tip=tip)
                )
    side = margin + cell * size
    grid = "".join(
        f"M{number(margin + cell * i)} {number(margin)}V{number(side)}M{number(margin)} {number(margin + cell * i)}H{number(side)}"
        for i in range(size + 1)
    )
    parts.append(f'<path class="grid" d="{grid}"/>')
    parts.append(
        f'<text class="label" x="{number((margin + side) / 2)}" y="12" text-anchor="middle">answer</text>'
    )
    parts.append(
        f'<text class="label" text-anchor="middle" transform="translate(12 {number((margin + side) / 2)})rotate(-90)">truth</text>'
    )
    wrong = int(confusion.sum() - confusion.trace())
    return svg(
        side + 8,
        side + 8,
        "".join(parts),
        f"Confusion matrix of {size} classes: {wrong} mistakes of {confusion.sum()}",
    )


def class_bars(counts: Mapping[str, Sequence[int]], parts: Sequence[str], *, limit: int = 40) -> Markup:
    """A horizontal bar per class, made of one piece per split; `counts` is class → images in each of `parts`."""
    shown = list(counts.items())[:limit]
    row, left, width = 20.0, 122.0, 520.0
    room = width - left - 56
    highest = max((sum(values) for _, values in shown), default=1) or 1
    out = []
    for i, name in enumerate(parts):
        x = left + 78 * i
        out.append(f'<rect class="bar s{i + 1}" x="{number(x)}" y="4" width="11" height="11" rx="2"/>')
        out.append(_text(x + 17, 14, name, "start", css="note"))
    for i, (name, values) in enumerate(shown):
        y = 28 + row * i
        out.append(_text(left - 8, y + 11, clip(name, 18), "end", full=name))
        x = left
        for k, (part, value) in enumerate(zip(parts, values, strict=True), start=1):
            length = room * value / highest
            if value:
                out.append(
                    f'<rect class="bar s{k}" x="{number(x)}" y="{number(y)}" width="{number(max(length, 1))}" height="13">'
                    f"<title>{escape(name)}, {escape(part)}: {value:,}</title></rect>"
                )
            x += length
        out.append(_text(x + 7, y + 11, f"{sum(values):,}", "start", css="note"))
    return svg(
        width, 32 + row * len(shown), "".join(out), f"Images per class and split, {len(counts)} classes"
    )


def _cell(x: float, y: float, size: float, count: int, share: float, *, right: bool, tip: str) -> str:
    # A single mistake among thousands must still be seen.
    opacity = 0.08 + 0.87 * share if right else 0.22 + 0.73 * share
    kind = "right" if right else "wrong"
    out = (
        f'<rect class="{kind}" x="{number(x)}" y="{number(y)}" width="{number(size)}" height="{number(size)}" '
        f'fill-opacity="{opacity:.2f}"><title>{escape(tip)}</title></rect>'
    )
    if size >= 24:
        text = f"{count}" if count < 10_000 else f"{count / 1000:.0f}k"
        # On a strong shade the theme's own text colour is hard to read.
        css = f"count on-{kind}" if opacity > 0.7 else "count"
        out += f'<text class="{css}" x="{number(x + size / 2)}" y="{number(y + size / 2 + 4)}" text-anchor="middle">{text}</text>'
    return out


def _text(x: float, y: float, text: str, anchor: str, *, css: str = "tick", full: str = "") -> str:
    tip = f"<title>{escape(full)}</title>" if full and full != text else ""
    return f'<text class="{css}" x="{number(x)}" y="{number(y)}" text-anchor="{anchor}">{tip}{escape(text)}</text>'
