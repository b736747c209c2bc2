"""The documentation's fenced blocks: what is run, what is only checked, and what says why it is not run."""

import re
from dataclasses import dataclass
from pathlib import Path

FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>[a-z]*)[^\n]*\n(?P<body>.*?)^(?P=indent)```", re.MULTILINE | re.DOTALL
)
NOT_RUN = re.compile(r"<!-- not run: (?P<reason>[^>]+?) -->\s*$")
LINK = re.compile(r"(?<!!)\[[^\]]*\]\((?P<target>[^)#\s]+)[^)]*\)")


@dataclass(frozen=True, slots=True)
class Snippet:
    """One fenced block: where it stands, its language, its text, and why it is not run (None: it is)."""

    page: Path
    line: int
    language: str
    body: str
    not_run: str | None


def pages(root: Path) -> list[Path]:
    """Every page that a reader is sent to."""
    found = [root / "README.md", *(root / "docs").rglob("*.md")]
    found += [
        page for top in ("components", "pipelines", "examples") for page in (root / top).rglob("README.md")
    ]
    return sorted(page for page in found if page.exists())


def snippets(page: Path) -> list[Snippet]:
    """A page's fenced blocks, in order. A block is left out of the run by `<!-- not run: why -->` right above it."""
    text = page.read_text(encoding="utf-8")
    found = []
    for match in FENCE.finditer(text):
        mark = NOT_RUN.search(text[: match.start()])
        found.append(
            Snippet(
                page=page,
                line=text.count("\n", 0, match.start()) + 1,
                language=match["language"],
                body=match["body"],
                not_run=mark["reason"] if mark else None,
            )
        )
    return found


def links(page: Path) -> list[str]:
    """Targets of the page's links within this repository."""
    targets = [match["target"] for match in LINK.finditer(page.read_text(encoding="utf-8"))]
    return [target for target in targets if not re.match(r"[a-z]+:", target)]
