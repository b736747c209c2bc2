"""The chart's README: a text, and a table of all values for each top-level group."""

import json
from collections.abc import Iterable
from typing import Any

from chart_docs.values import Value

PLACE = "<!-- values -->"


def readme(template: str, values: Iterable[Value]) -> str:
    """`template` with the tables where `<!-- values -->` stands."""
    values = tuple(values)
    single = [value for value in values if not value.children]
    parts = [_table(single)]
    for group in values:
        if group.children:
            parts.append(f"### {group.name}")
            if group.description:
                parts.append(group.description)
            parts.append(_table(group.leaves()))
    return template.replace(PLACE, "\n\n".join(parts))


def _table(values: Iterable[Value]) -> str:
    rows = ["| value | default | what it is |", "| --- | --- | --- |"]
    rows += [f"| `{value.name}` | `{_default(value.default)}` | {_cell(value)} |" for value in values]
    return "\n".join(rows)


def _default(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False).replace("|", "\\|")


def _cell(value: Value) -> str:
    text = value.description.replace("|", "\\|")
    choices = [each for each in value.extra.get("enum", ()) if isinstance(each, str) and each]
    if len(choices) > 1 and not all(f"`{each}`" in text for each in choices):
        text += f" One of {', '.join(f'`{each}`' for each in choices)}."
    return text
