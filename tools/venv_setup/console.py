"""Progress that a person can follow: numbered steps, and one live line for whatever a long command says."""

import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

TICK_S = 10.0
"""How often a pipe (a CI log) hears that a quiet command is still at work."""


class SetupError(Exception):
    """Set-up cannot go on; the text says why and what to do."""


class Console:
    """Writes to stderr: `[2/5] name (0:31)` for each step, then what its command is doing right now."""

    def __init__(self, num_steps: int, stream: IO[str] | None = None) -> None:
        self._stream = stream or sys.stderr
        self._num_steps = num_steps
        self._step = 0
        self.held_locks: list[int] = []
        """Lock files that commands keep open: where we are killed, the lock lives as long as what we started."""
        self._start = time.monotonic()
        self._live = self._stream.isatty() and os.environ.get("TERM") != "dumb"

    def step(self, name: str) -> None:
        self._step += 1
        self.say(f"[{self._step}/{self._num_steps}] {name} ({self.elapsed()})")

    def say(self, text: str) -> None:
        self._clear()
        print(text, file=self._stream, flush=True)

    def elapsed(self) -> str:
        return clock(time.monotonic() - self._start)

    def run(
        self,
        command: Sequence[str],
        *,
        log: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        """Run a command, show its latest line as it comes, keep all of it in `log`.

        Raises `SetupError` with the log's end when the command fails. Interrupted, it ends the command's whole
        process group (a compiler under make under pip).
        """
        log.parent.mkdir(parents=True, exist_ok=True)
        last: deque[str] = deque(maxlen=30)
        with (
            log.open("a", encoding="utf-8", errors="replace") as sink,
            subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                env=env,
                cwd=cwd,
                start_new_session=True,
                pass_fds=tuple(self.held_locks),
            ) as process,
        ):
            if process.stdout is None:
                raise SetupError("no pipe from the command")
            lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
            threading.Thread(target=_pump, args=(process.stdout, lines), daemon=True).start()
            try:
                self._follow(lines, sink, last)
            except BaseException:
                os.killpg(process.pid, signal.SIGTERM)
                raise
            status = process.wait()
        self._clear()
        if status:
            raise SetupError(
                f"`{' '.join(map(str, command[:6]))} …` ended with status {status}\n"
                + "\n".join(f"    {line}" for line in last)
                + f"\n  the whole log: {log}"
            )

    def _follow(self, lines: "queue.SimpleQueue[str | None]", sink: IO[str], last: deque[str]) -> None:
        latest, spoken, start = "…", time.monotonic(), time.monotonic()
        while True:
            try:
                line = lines.get(timeout=0.5)
            except queue.Empty:
                pass
            else:
                if line is None:
                    return
                shown = describe(line)
                if not line.startswith("Progress "):
                    sink.write(line)
                    if line.strip():
                        last.append(line.rstrip()[:300])
                latest = shown or latest
            now = time.monotonic()
            if self._live and now - spoken > 0.1:
                self._draw(f"      {clock(now - start)}  {latest}")
                spoken = now
            elif not self._live and now - spoken > TICK_S:
                self.say(f"      {clock(now - start)}  {latest}")
                spoken = now

    def _draw(self, text: str) -> None:
        width = shutil.get_terminal_size().columns - 1
        self._stream.write("\r\x1b[K" + text[:width])
        self._stream.flush()

    def _clear(self) -> None:
        if self._live:
            self._stream.write("\r\x1b[K")


def _pump(pipe: IO[str], lines: "queue.SimpleQueue[str | None]") -> None:
    for line in pipe:
        lines.put(line)
    lines.put(None)


def describe(line: str) -> str:
    """One output line, short: pip's raw progress becomes a percentage, compiler noise becomes nothing."""
    text = line.strip()
    if match := re.fullmatch(r"Progress (\d+) of (\d+)", text):
        done, total = int(match[1]), int(match[2])
        return f"downloading {done / 1e6:,.0f} of {total / 1e6:,.0f} MB" if total else ""
    if match := re.match(r"\[\s*(\d+)%\] (.*)", text):
        return f"compiling {match[1]} %: {Path(match[2].split()[-1]).name}"
    if text.startswith(
        ("Collecting", "Downloading", "Installing", "Building", "Using cached", "Running", "Created")
    ):
        return text[:120]
    return ""


def clock(seconds: float) -> str:
    """`75.2` as `1:15`."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
