"""Progress and messages on stderr: bars for a terminal, lines for a pipe, JSON lines for a container."""

import json
import math
import os
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Literal, TextIO, get_args

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from components.common.canonical import Json
from components.common.errors import InputError

Format = Literal["auto", "bars", "lines", "json"]
LINE_INTERVAL_S = 5.0


class Task(ABC):
    """A piece of work whose progress is shown."""

    @abstractmethod
    def advance(self, num: int = 1, **metrics: float | str) -> None:
        """`num` more units are done; `metrics` replace what is shown beside the bar."""

    @abstractmethod
    def set_total(self, total: int) -> None:
        """The number of units, where it becomes known only later."""


class Reporter(ABC):
    """Where a step tells a person what it does."""

    @abstractmethod
    def info(self, message: str, **fields: Json) -> None:
        """Something worth knowing."""

    @abstractmethod
    def warning(self, message: str, **fields: Json) -> None:
        """Something to look at; the work goes on."""

    @contextmanager
    @abstractmethod
    def task(self, name: str, *, total: int | None = None, unit: str = "") -> Iterator[Task]:
        """Show a task until the block ends."""


def make_reporter(fmt: Format = "auto", *, stream: TextIO | None = None, quiet: bool = False) -> Reporter:
    """The reporter that fits where stderr goes; `CONVEYOR_LOG_FORMAT` (bars, lines, json) decides otherwise."""
    stream = stream or sys.stderr
    chosen = os.environ.get("CONVEYOR_LOG_FORMAT") or "auto" if fmt == "auto" else fmt
    if chosen not in get_args(Format):
        raise InputError(
            "an unknown log format",
            where="the environment variable CONVEYOR_LOG_FORMAT",
            expected=f"one of {', '.join(get_args(Format))}",
            found=repr(chosen),
        )
    if quiet:
        return QuietReporter(JsonReporter(stream) if chosen == "json" else LineReporter(stream))
    if chosen == "json":
        return JsonReporter(stream)
    if chosen == "bars" or (chosen == "auto" and stream.isatty() and os.environ.get("TERM") != "dumb"):
        return BarReporter(stream)
    return LineReporter(stream)


def _format_fields(fields: dict[str, Json]) -> str:
    return "".join(f" {name}={_short(value)}" for name, value in fields.items())


def _short(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value)


def _finite(value: object) -> object:
    return value if not isinstance(value, float) or math.isfinite(value) else str(value)


class _BarTask(Task):
    def __init__(self, progress: Progress, task_id: TaskID, unit: str) -> None:
        self._progress, self._id, self._unit = progress, task_id, unit
        self._started = time.monotonic()
        self._done = 0
        self._metrics: dict[str, float | str] = {}

    def advance(self, num: int = 1, **metrics: float | str) -> None:
        self._done += num
        self._metrics.update(metrics)
        rate = self._done / max(time.monotonic() - self._started, 1e-6)
        detail = f"{rate:,.0f} {self._unit}/s" if self._unit else ""
        detail += _format_fields(dict(self._metrics))
        self._progress.update(self._id, advance=num, detail=detail)

    def set_total(self, total: int) -> None:
        self._progress.update(self._id, total=total)


class BarReporter(Reporter):
    """Rich bars with rate, remaining time and the current metric (honours NO_COLOR through rich)."""

    def __init__(self, stream: TextIO) -> None:
        self._console = Console(file=stream, highlight=False)
        self._progress: Progress | None = None
        self._depth = 0

    def info(self, message: str, **fields: Json) -> None:
        style = "bold" if message.startswith("[") else ""
        self._console.print(Text(message, style), Text(_format_fields(fields), "dim"), sep="", soft_wrap=True)

    def warning(self, message: str, **fields: Json) -> None:
        text = f"warning: {message}{_format_fields(fields)}"
        self._console.print(text, style="yellow", markup=False, soft_wrap=True)

    @contextmanager
    def task(self, name: str, *, total: int | None = None, unit: str = "") -> Iterator[Task]:
        if self._progress is None:
            self._progress = Progress(
                SpinnerColumn(),
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[detail]}", markup=False),
                console=self._console,
                transient=True,
            )
            self._progress.start()
        progress = self._progress
        self._depth += 1
        task_id = progress.add_task(name, total=total, detail="")
        try:
            yield _BarTask(progress, task_id, unit)
        finally:
            progress.remove_task(task_id)
            self._depth -= 1
            if self._depth == 0:
                progress.stop()
                self._progress = None


class _LineTask(Task):
    """A line at most every few seconds, and one at the end."""

    def __init__(
        self, reporter: "LineReporter | JsonReporter", name: str, total: int | None, unit: str
    ) -> None:
        self._reporter, self._name, self._total, self._unit = reporter, name, total, unit
        self._started = self._shown = time.monotonic()
        self._done = 0
        self._metrics: dict[str, float | str] = {}

    def advance(self, num: int = 1, **metrics: float | str) -> None:
        self._done += num
        self._metrics.update(metrics)
        if time.monotonic() - self._shown >= LINE_INTERVAL_S:
            self.show()

    def set_total(self, total: int) -> None:
        self._total = total

    def show(self) -> None:
        self._shown = time.monotonic()
        elapsed = max(self._shown - self._started, 1e-6)
        rate = self._done / elapsed
        fields: dict[str, Json] = {"done": self._done}
        if self._total is not None:
            fields["total"] = self._total
            if 0 < self._done < self._total:
                fields["eta_s"] = round((self._total - self._done) / max(rate, 1e-9))
        fields["rate"] = round(rate, 1)
        if self._unit:
            fields["unit"] = self._unit
        fields["elapsed_s"] = round(elapsed, 1)
        self._reporter.progress(self._name, fields | dict(self._metrics))


class LineReporter(Reporter):
    """Plain lines, no colour, no cursor movement."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def _print(self, text: str) -> None:
        # In one piece, since several threads may have something to say.
        self._stream.write(text + "\n")
        self._stream.flush()

    def info(self, message: str, **fields: Json) -> None:
        self._print(message + _format_fields(fields))

    def warning(self, message: str, **fields: Json) -> None:
        self._print(f"warning: {message}{_format_fields(fields)}")

    def progress(self, name: str, fields: dict[str, Json]) -> None:
        done, total = fields.pop("done"), fields.pop("total", None)
        unit, rate = fields.pop("unit", ""), fields.pop("rate")
        of = f"/{total}" if total is not None else ""
        self._print(f"{name}: {done}{of} {unit} at {rate}/s".replace("  ", " ") + _format_fields(fields))

    @contextmanager
    def task(self, name: str, *, total: int | None = None, unit: str = "") -> Iterator[Task]:
        task = _LineTask(self, name, total, unit)
        yield task
        task.show()


class JsonReporter(Reporter):
    """One JSON object a line: `time`, `level`, `message` and whatever else was given."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def _print(self, level: str, message: str, fields: dict[str, Json]) -> None:
        line = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "level": level,
            "message": message,
        }
        whole = {**fields, **line}
        try:
            text = json.dumps(whole, default=str, allow_nan=False)
        except ValueError:
            # A loss that became infinite must not break whoever reads the log.
            text = json.dumps({name: _finite(value) for name, value in whole.items()}, default=str)
        self._stream.write(text + "\n")
        self._stream.flush()

    def info(self, message: str, **fields: Json) -> None:
        self._print("info", message, fields)

    def warning(self, message: str, **fields: Json) -> None:
        self._print("warning", message, fields)

    def progress(self, name: str, fields: dict[str, Json]) -> None:
        self._print("progress", name, fields)

    @contextmanager
    def task(self, name: str, *, total: int | None = None, unit: str = "") -> Iterator[Task]:
        task = _LineTask(self, name, total, unit)
        yield task
        task.show()


class _QuietTask(Task):
    def advance(self, num: int = 1, **metrics: float | str) -> None:
        """Nobody watches."""

    def set_total(self, total: int) -> None:
        """Nobody watches."""


class QuietReporter(Reporter):
    """Says nothing but warnings, and those through another reporter."""

    def __init__(self, loud: Reporter | None = None) -> None:
        self._loud = loud

    def info(self, message: str, **fields: Json) -> None:
        """Nobody watches."""

    def warning(self, message: str, **fields: Json) -> None:
        (self._loud or LineReporter(sys.stderr)).warning(message, **fields)

    @contextmanager
    def task(self, name: str, *, total: int | None = None, unit: str = "") -> Iterator[Task]:
        yield _QuietTask()
