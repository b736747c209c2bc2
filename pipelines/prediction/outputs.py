"""Answers as a table, JSON or CSV, printed while they come."""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from components.data.strict import BadImageError


@dataclass(frozen=True, slots=True)
class Answer:
    """What the model says about one image: the most likely classes first; or why it cannot say anything."""

    path: str
    classes: tuple[tuple[str, float], ...] = ()
    error: BadImageError | None = None


class Format(Protocol):
    """Turns answers into text, piece by piece."""

    def begin(self) -> str: ...
    def some(self, answers: Sequence[Answer]) -> str: ...
    def end(self) -> str: ...


class Table:
    """For people: aligned columns, as wide as the widest name so far."""

    def __init__(self, top: int) -> None:
        self._top = top
        self._path, self._label = len("image"), len("label")
        self._header = True

    def begin(self) -> str:
        return ""

    def some(self, answers: Sequence[Answer]) -> str:
        good = [answer for answer in answers if answer.error is None]
        names = [[name for name, _ in answer.classes] for answer in good]
        self._path = max([self._path, *(len(answer.path) for answer in good)])
        self._label = max([self._label, *(len(name) for each in names for name in each)])
        lines = []
        if good and self._header:
            self._header = False
            columns = [f"{'label':<{self._label}}  probability"] * self._top
            lines.append(f"{'image':<{self._path}}  " + "  ".join(columns))
        for answer in good:
            cells = [f"{name:<{self._label}}  {share * 100:>9.2f} %" for name, share in answer.classes]
            lines.append(f"{answer.path:<{self._path}}  " + "  ".join(cells))
        return "".join(line + "\n" for line in lines)

    def end(self) -> str:
        return ""


class Json:
    """One array, one object a line: a program may read it whole or line by line."""

    def __init__(self, top: int) -> None:
        self._empty = True

    def begin(self) -> str:
        return "["

    def some(self, answers: Sequence[Answer]) -> str:
        text = ""
        for answer in answers:
            text += ("\n" if self._empty else ",\n") + json.dumps(_as_json(answer), ensure_ascii=False)
            self._empty = False
        return text

    def end(self) -> str:
        return "]\n" if self._empty else "\n]\n"


class Csv:
    """For spreadsheets: path, label, probability; further pairs with --top."""

    def __init__(self, top: int) -> None:
        self._top = top

    def begin(self) -> str:
        header = ["path", "label", "probability"]
        for rank in range(2, self._top + 1):
            header += [f"label_{rank}", f"probability_{rank}"]
        return _csv([header])

    def some(self, answers: Sequence[Answer]) -> str:
        return _csv(
            [
                [answer.path, *(cell for name, share in answer.classes for cell in (name, f"{share:.6f}"))]
                for answer in answers
                if answer.error is None
            ]
        )

    def end(self) -> str:
        return ""


FORMATS: dict[str, type[Table] | type[Json] | type[Csv]] = {"table": Table, "json": Json, "csv": Csv}


def _as_json(answer: Answer) -> dict[str, object]:
    if answer.error is not None:
        return {"path": answer.path, "error": {"reason": answer.error.reason, "detail": answer.error.detail}}
    label, share = answer.classes[0]
    found: dict[str, object] = {"path": answer.path, "label": label, "probability": round(share, 6)}
    if len(answer.classes) > 1:
        found["top"] = [{"label": name, "probability": round(p, 6)} for name, p in answer.classes]
    return found


def _csv(rows: Sequence[Sequence[str]]) -> str:
    sink = io.StringIO()
    csv.writer(sink, lineterminator="\n").writerows(rows)
    return sink.getvalue()
