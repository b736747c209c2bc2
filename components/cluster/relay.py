"""Log lines of pods, shown here as the pods' own progress would be: with their step and rank, never twice."""

import json
import threading
from contextlib import ExitStack
from typing import Any

from components.common.progress import BarReporter, JsonReporter, LineReporter, Reporter, Task

ORIGIN = "origin"
"""Field of a line that a launcher passed on: whose it was (step, rank, pod) and when it was written (at)."""
OWN = ("time", "level", "message", ORIGIN)
PROGRESS = ("done", "total", "eta_s", "rate", "unit", "elapsed_s")
SUMMARY = "summary"
"""Level of the line that holds a run's last words, for whoever follows its launcher."""


class Relay:
    """Takes lines as containers write them (JSON lines, else plain text). Safe to use from several threads.

    `result` is the last object on a launcher's stdout that is a run's result, `summary` its last words.
    """

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self._lock = threading.Lock()
        self._bars: dict[str, tuple[ExitStack, Task, int]] = {}
        self._passed_on: set[tuple[str, str, str]] = set()
        self.result: dict[str, Any] | None = None
        self.summary: str | None = None

    def line(
        self, text: str, *, step: str | None = None, rank: str | None = None, pod: str = "", at: str = ""
    ) -> None:
        """One line of a pod's log, written at `at`; `step`, `rank` and `pod` say whose, where the line does not."""
        with self._lock:
            try:
                value = json.loads(text)
            except ValueError:
                value = None
            origin: dict[str, Any] = {"step": step, "rank": rank, "pod": pod, "at": at}
            if not isinstance(value, dict):
                if text.strip():
                    self._show("info", text.rstrip(), {}, origin)
            elif "level" in value and "message" in value:
                passed_on = value.get(ORIGIN)
                if isinstance(passed_on, dict):
                    if self._is_known(passed_on, str(value["message"])):
                        return
                    origin = {name: passed_on.get(name) for name in origin}
                fields = {name: item for name, item in value.items() if name not in OWN}
                self._show(str(value["level"]), str(value["message"]), fields, origin)
            elif {"run", "state", "steps"} <= set(value):
                self.result = value
            elif not {"kind", "tree"} <= set(value):  # a step's reference is for programs
                self._show("info", text.rstrip(), {}, origin)

    def _is_known(self, origin: dict[str, Any], message: str) -> bool:
        """A launcher that took over reads its steps' logs from the beginning: what was passed on is not new."""
        key = (str(origin.get("pod")), str(origin.get("at")), message)
        if key in self._passed_on:
            return True
        self._passed_on.add(key)
        return False

    def warning(self, message: str) -> None:
        """Something of our own to look at."""
        with self._lock:
            self._reporter.warning(message)

    def info(self, message: str) -> None:
        """Something of our own worth knowing."""
        with self._lock:
            self._reporter.info(message)

    def close(self) -> None:
        """No bar stays open."""
        with self._lock:
            for name in list(self._bars):
                self._bars.pop(name)[0].close()

    def _show(self, level: str, message: str, fields: dict[str, Any], origin: dict[str, Any]) -> None:
        if level == SUMMARY:
            self.summary = message
            return
        if level == "error":
            return  # The pod's end tells it, once, with what to do.
        place: dict[str, Any] = {}
        if isinstance(self._reporter, JsonReporter):
            if origin["step"] is not None:
                place = {ORIGIN: origin}
        else:
            message = _prefixed(message, origin["step"], origin["rank"])
        if level == "progress":
            self._progress(message, fields, place)
        elif level == "warning":
            self._reporter.warning(message, **fields, **place)
        else:
            self._reporter.info(message, **fields, **place)

    def _progress(self, name: str, fields: dict[str, Any], place: dict[str, Any]) -> None:
        if isinstance(self._reporter, BarReporter):
            self._bar(name, fields)
        elif isinstance(self._reporter, JsonReporter):
            self._reporter.progress(name, {**fields, **place})
        elif isinstance(self._reporter, LineReporter):
            self._reporter.progress(name, {"done": "?", "rate": "?", **fields})

    def _bar(self, name: str, fields: dict[str, Any]) -> None:
        done, total = int(fields.get("done") or 0), fields.get("total")
        if name not in self._bars:
            stack = ExitStack()
            task = stack.enter_context(
                self._reporter.task(name, total=total, unit=str(fields.get("unit", "")))
            )
            self._bars[name] = (stack, task, 0)
        stack, task, before = self._bars[name]
        metrics = {key: item for key, item in fields.items() if key not in PROGRESS}
        task.advance(max(0, done - before), **metrics)
        self._bars[name] = (stack, task, max(done, before))
        if total is not None and done >= total:
            self._bars.pop(name)[0].close()


def _prefixed(message: str, step: str | None, rank: str | None) -> str:
    if step is None:
        return message
    if rank is not None:
        return f"{step}/{rank}: {message}"
    return message if message.startswith((f"{step}:", f"{step} ")) else f"{step}: {message}"
