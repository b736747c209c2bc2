"""A small SVG plot: axes, lines, points. Colours are CSS classes, so that the page's theme decides them."""

from collections.abc import Callable, Sequence
from html import escape

from markupsafe import Markup

from components.evaluate.html.scale import Scale

Format = Callable[[float], str]


def number(value: float) -> str:
    """Short text of a coordinate: a hundredth of a pixel is enough."""
    return f"{value:.2f}".rstrip("0").rstrip(".") or "0"


def plain(value: float) -> str:
    return f"{value:g}"


def scientific(value: float) -> str:
    """Small numbers as 5e-4 rather than 0.0005."""
    if value == 0 or abs(value) >= 0.01:
        return f"{value:g}"
    mantissa, exponent = f"{value:.2e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}"


def percent(value: float) -> str:
    return f"{value * 100:.4g} %"


def clip(text: str, limit: int) -> str:
    """A name that may come from anywhere, short enough for its place."""
    flat = " ".join(text.split())
    return flat if len(flat) <= limit else flat[: limit - 1] + "…"


class Plot:
    """A drawing with two axes. Everything textual is escaped here."""

    def __init__(
        self,
        x: tuple[float, float],
        y: tuple[float, float],
        *,
        x_label: str,
        y_label: str,
        width: int = 380,
        height: int = 270,
        x_format: Format = plain,
        y_format: Format = plain,
        log_x: bool = False,
        legend_rows: int = 0,
        x_ticks: int = 5,
        left: int = 52,
    ) -> None:
        self.width, self.height = width, height
        top, right, bottom = 12 + 18 * legend_rows, 24, 44
        self.x = Scale(*x, left, width - right, log=log_x)
        self.y = Scale(*y, height - bottom, top)
        self._parts: list[str] = []
        self._axes(x_label, y_label, x_format, y_format, x_ticks)
        self._legend: list[str] = []

    def _axes(self, x_label: str, y_label: str, x_format: Format, y_format: Format, x_ticks: int) -> None:
        left, right, bottom, top = self.x.start, self.x.end, self.y.start, self.y.end
        for tick in self.y.ticks(4):
            height = number(self.y(tick))
            self._parts.append(f'<path class="grid" d="M{number(left)} {height}H{number(right)}"/>')
            self._text(left - 7, self.y(tick) + 4, y_format(tick), anchor="end", css="tick")
        for tick in self.x.ticks(x_ticks):
            at = self.x(tick)
            self._parts.append(f'<path class="axis" d="M{number(at)} {number(bottom)}v4"/>')
            self._text(at, bottom + 17, x_format(tick), css="tick")
        self._parts.append(f'<path class="axis" d="M{number(left)} {number(bottom)}H{number(right)}"/>')
        self._text((left + right) / 2, self.height - 7, x_label, css="label")
        middle = (top + bottom) / 2
        self._parts.append(
            f'<text class="label" text-anchor="middle" transform="translate(13 {number(middle)})rotate(-90)">'
            f"{escape(y_label)}</text>"
        )

    def _text(self, x: float, y: float, text: str, *, anchor: str = "middle", css: str = "note") -> None:
        self._parts.append(
            f'<text class="{css}" x="{number(x)}" y="{number(y)}" text-anchor="{anchor}">{escape(text)}</text>'
        )

    def text(
        self, x: float, y: float, text: str, *, anchor: str = "middle", dx: float = 0, dy: float = 0
    ) -> None:
        """A note at a point of the data, moved by `dx`, `dy` pixels."""
        self._text(self.x(x) + dx, self.y(y) + dy, text, anchor=anchor)

    def line(self, points: Sequence[tuple[float, float]], css: str, *, name: str | None = None) -> None:
        """A line through the points; one with a name stands in the legend."""
        path = "L".join(f"{number(self.x(x))} {number(self.y(y))}" for x, y in points)
        self._parts.append(f'<path class="line {css}" d="M{path}"/>')
        if name is not None:
            self._key(name, css, dot=False)

    def area(self, points: Sequence[tuple[float, float]], css: str) -> None:
        """A closed shape."""
        path = "L".join(f"{number(self.x(x))} {number(self.y(y))}" for x, y in points)
        self._parts.append(f'<path class="area {css}" d="M{path}Z"/>')

    def dot(self, x: float, y: float, css: str, *, tip: str = "", radius: float = 4.5) -> None:
        """A point; `tip` shows when the pointer rests on it."""
        self._parts.append(
            f'<circle class="dot {css}" cx="{number(self.x(x))}" cy="{number(self.y(y))}" r="{number(radius)}">'
            f"<title>{escape(tip)}</title></circle>"
        )

    def bar(self, x: tuple[float, float], y: tuple[float, float], css: str, *, tip: str = "") -> None:
        """A rectangle between two values on each axis."""
        left, right = sorted((self.x(x[0]), self.x(x[1])))
        top, bottom = sorted((self.y(y[0]), self.y(y[1])))
        self._parts.append(
            f'<rect class="bar {css}" x="{number(left)}" y="{number(top)}" width="{number(right - left)}" '
            f'height="{number(bottom - top)}"><title>{escape(tip)}</title></rect>'
        )

    def key(self, name: str, css: str) -> None:
        """An entry of the legend for points or bars."""
        self._key(name, css, dot=True)

    def _key(self, name: str, css: str, *, dot: bool) -> None:
        mark = (
            f'<circle class="dot {css}" cx="7" cy="-4" r="4.5"/>'
            if dot
            else f'<path class="line {css}" d="M0 -4h15"/>'
        )
        self._legend.append(f'{mark}<text class="note" x="20" y="0">{escape(name)}</text>')

    def render(self, description: str) -> Markup:
        """The `<svg>`; `description` says in words what it shows, for those who do not see it."""
        keys = []
        columns = 2 if self.width < 500 else 4
        step = (self.x.end - self.x.start) / columns
        for i, entry in enumerate(self._legend):
            x, y = self.x.start + step * (i % columns), 13 + 18 * (i // columns)
            keys.append(f'<g transform="translate({number(x)} {number(y)})">{entry}</g>')
        return svg(self.width, self.height, "".join(self._parts + keys), description)


def svg(width: float, height: float, body: str, description: str) -> Markup:
    """`body` (markup, its text already escaped) as a scalable figure."""
    return Markup(  # noqa: S704 - every text in the body went through escape()
        f'<svg viewBox="0 0 {number(width)} {number(height)}" style="max-width:{number(width * 1.35)}px;min-width:{number(min(width, width * 0.55 + 120))}px" '
        f'role="img" aria-label="{escape(description)}">{body}</svg>'
    )
