"""values.yaml with its comments: each value's path, default, description and what `@schema` adds."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

MARK = "@schema "


@dataclass(frozen=True)
class Value:
    """One key. `children` is empty for what is documented, and checked, as a whole."""

    path: tuple[str, ...]
    default: Any
    description: str
    extra: dict[str, Any]
    children: "tuple[Value, ...]" = field(default=())

    @property
    def name(self) -> str:
        return ".".join(self.path)

    def leaves(self) -> Iterator["Value"]:
        if not self.children:
            yield self
        for child in self.children:
            yield from child.leaves()


def read_values(text: str) -> tuple[Value, ...]:
    """All top-level values. Raises `ValueError` for one without a description."""
    return _children(yaml.compose(text, Loader=yaml.SafeLoader), text.splitlines(), ())


def _children(node: yaml.Node | None, lines: Sequence[str], path: tuple[str, ...]) -> tuple[Value, ...]:
    assert isinstance(node, yaml.MappingNode)
    found = []
    for key, child in node.value:
        here = (*path, key.value)
        description, extra = _comment(lines, key.start_mark.line, key.start_mark.column)
        # A map that is written in one line, empty, or described by a schema of its own is one value.
        group = isinstance(child, yaml.MappingNode) and not child.flow_style and "$ref" not in extra
        children = _children(child, lines, here) if group else ()
        if not description and not children:
            raise ValueError(f"values.yaml:{key.start_mark.line + 1}: {'.'.join(here)} has no comment")
        found.append(Value(here, _plain(child), description, extra, children))
    return tuple(found)


def _plain(node: yaml.Node) -> Any:
    return yaml.safe_load(yaml.serialize(node))


def _comment(lines: Sequence[str], line: int, column: int) -> tuple[str, dict[str, Any]]:
    """The comment right above a key, at its indentation."""
    above: list[str] = []
    beginning = " " * column + "#"
    while line > 0 and lines[line - 1].startswith(beginning):
        line -= 1
        above.insert(0, lines[line][len(beginning) :].strip())
    extra: dict[str, Any] = {}
    words = []
    for text in above:
        if text.startswith(MARK):
            extra |= json.loads(text.removeprefix(MARK))
        else:
            words.append(text)
    return " ".join(words), extra
