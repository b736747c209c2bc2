"""A pod's log to its last line, across lost connections, with no line twice and none missed."""

import threading
import time
from collections import deque
from collections.abc import Callable
from datetime import datetime, timedelta

from components.cluster.answers import Gone
from components.cluster.api import POD, Cluster, Object
from components.cluster.names import CONTAINER
from components.cluster.views import NEVER_RAN, container_status
from components.common.errors import ConveyorError

OVERLAP = timedelta(seconds=2)
"""Lines of stdout and stderr may stand in another order than their times: a little is read again and compared."""
REMEMBERED = 5000
PAUSE_S = 0.5
PATIENCE_S = 120.0
"""Seconds that a log may be refused (its node is away) before it is given up."""


class LogReader(threading.Thread):
    """Hands every line of one pod's log, and the time that it was written at, to `take`, once.

    `lost` is told why, where the log is given up before its end.
    """

    def __init__(
        self,
        cluster: Cluster,
        pod: str,
        take: Callable[[str, str], None],
        lost: Callable[[str], None],
        *,
        patience_s: float = PATIENCE_S,
    ) -> None:
        super().__init__(name=f"log-{pod}", daemon=True)
        self._cluster, self._pod, self._take, self._lost = cluster, pod, take, lost
        self._patience_s = patience_s
        self._recent: deque[bytes] = deque(maxlen=REMEMBERED)
        self._seen: set[bytes] = set()
        self._last: str | None = None
        self._stop_asked = threading.Event()

    def stop(self) -> None:
        """Read no further."""
        self._stop_asked.set()

    def run(self) -> None:
        refused_since: float | None = None
        while not self._stop_asked.is_set():
            try:
                # Asked before reading, so that what is read after the end is all of it.
                pod = self._cluster.get(POD, self._pod)
                if pod is None:
                    return
                over = has_ended(pod)
                # By name: of a pod with an agent or a mesh's proxy beside it, the server gives no log without one.
                lines = self._cluster.logs(
                    self._pod, since=self._since(), follow=not over, container=CONTAINER
                )
                for line in lines:
                    self._line(line)
                    if self._stop_asked.is_set():
                        return
                if over:
                    return
                refused_since = None
            except Gone:
                return
            except (ConveyorError, OSError, ValueError) as error:
                refused_since = refused_since or time.monotonic()
                if time.monotonic() - refused_since > self._patience_s:
                    found = error.found if isinstance(error, ConveyorError) else None
                    self._lost(str(found or error))
                    return
            self._stop_asked.wait(PAUSE_S)

    def _since(self) -> str | None:
        if self._last is None:
            return None
        then = datetime.fromisoformat(self._last[:19] + "+00:00") - OVERLAP
        return then.strftime("%Y-%m-%dT%H:%M:%SZ")

    def _line(self, line: bytes) -> None:
        stamp, separator, text = line.partition(b" ")
        if not separator or len(stamp) < 20:
            return
        # The time has nanoseconds: the same time with the same text is the same line.
        if line in self._seen:
            return
        if len(self._recent) == REMEMBERED:
            self._seen.discard(self._recent[0])
        self._recent.append(line)
        self._seen.add(line)
        at = stamp.decode(errors="replace")
        self._last = max(self._last or "", at)
        self._take(text.decode(errors="replace").rstrip("\r"), at)


def has_started(pod: Object) -> bool:
    """Whether its container ran, or runs."""
    status = container_status(pod)
    state, before = status.get("state", {}), status.get("lastState", {})
    ended = state.get("terminated") or before.get("terminated")
    return "running" in state or (ended is not None and ended.get("reason") not in NEVER_RAN)


def has_ended(pod: Object) -> bool:
    """Whether its container will write no more."""
    if pod.get("status", {}).get("phase") in ("Succeeded", "Failed"):
        return True
    return "terminated" in container_status(pod).get("state", {})
