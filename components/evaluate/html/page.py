"""Fill a template into one self-contained HTML page."""

import base64
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

TEMPLATES = Path(__file__).parent / "templates"


@cache
def environment(*folders: Path) -> jinja2.Environment:
    """Templates of the given folders and of this package. Every value is escaped; an unknown name is an error."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([str(folder) for folder in (*folders, TEMPLATES)]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style = (TEMPLATES / "style.css").read_text(encoding="utf-8")
    environment.globals.update(style=Markup(style), pct=share, num=count, sentence=sentence)  # noqa: S704 - our own file
    return environment


def render(template: str, context: dict[str, Any], *folders: Path) -> bytes:
    """The page as UTF-8; the same context gives the same bytes."""
    return environment(*folders).get_template(template).render(context).encode()


def templates_digest(*folders: Path) -> str:
    """Hex digest of the templates and the style: what a report depends on besides its code."""
    digest = sha256()
    for folder in (*folders, TEMPLATES):
        for path in sorted(folder.iterdir()):
            if path.is_file():
                digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def data_uri(picture: bytes) -> str:
    """A picture (PNG or JPEG) inside the page."""
    kind = "image/jpeg" if picture.startswith(b"\xff\xd8") else "image/png"
    return f"data:{kind};base64,{base64.b64encode(picture).decode()}"


def share(value: float) -> str:
    """A share as people write it: 98.3 %."""
    return f"{value * 100:.1f} %"


def count(number: int, one: str, many: str | None = None) -> str:
    """A number with its noun: 1 image, 1,234 images."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def sentence(text: str) -> str:
    """With a capital letter and a full stop."""
    text = text.strip()
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")
