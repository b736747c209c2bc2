"""Looks at the store in the background, so that a scrape never waits for it."""

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

from prometheus_client.core import CounterMetricFamily, Metric

from components.common.failures import explain
from components.common.progress import Reporter
from pipelines.exporter.facts import Facts, Looker
from pipelines.exporter.families import families, gauge

STUCK_S = 900.0
"""A look that takes longer is not going to end."""


@dataclass(frozen=True, slots=True)
class Seen:
    """The last look that succeeded, and how the last one went."""

    facts: Facts | None = None
    looked: float | None = None
    """When `facts` were seen, seconds since the epoch."""
    seconds: float = 0.0
    """That it took."""
    up: bool = False
    failures: int = 0
    tried: bool = False


class Watch:
    """A `prometheus_client` collector over a thread that looks every `refresh_s` seconds."""

    def __init__(self, looker: Looker, reporter: Reporter, *, refresh_s: float) -> None:
        self._looker, self._reporter, self._refresh_s = looker, reporter, refresh_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="refresh", daemon=True)
        self._began: float | None = None
        self.seen = Seen()

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()

    def look(self) -> None:
        """Look once, now. Raises what `Looker.look` raises; what was seen before stays."""
        self._began = started = time.monotonic()
        try:
            facts = self._looker.look()
            seconds = time.monotonic() - started
            self.seen = Seen(facts, time.time(), seconds, True, self.seen.failures, True)
        except BaseException:
            seen = self.seen
            self.seen = Seen(seen.facts, seen.looked, seen.seconds, False, seen.failures + 1, True)
            raise
        finally:
            self._began = None

    def healthy(self) -> tuple[bool, str]:
        """Whether the exporter does its work, and a word on that. A store that is away is not its fault."""
        began = self._began
        if not self._thread.is_alive():
            return False, "has stopped looking at the store"
        if began is not None and time.monotonic() - began > STUCK_S:
            return False, "is stuck looking at the store"
        if not self.seen.tried:
            return True, "ok, but the first look at the store has not ended"
        return True, "ok" if self.seen.up else "ok, but the store cannot be read at the moment"

    def collect(self) -> Iterator[Metric]:
        seen = self.seen
        yield gauge("conveyor_store_up", "1 where the last look at the store succeeded.", seen.up)
        failures = CounterMetricFamily(
            "conveyor_exporter_refresh_failures", "Looks at the store that failed since the exporter began."
        )
        failures.add_metric((), seen.failures)
        yield failures
        if seen.facts is None or seen.looked is None:
            return
        yield gauge(
            "conveyor_exporter_refreshed_timestamp_seconds", "When these figures were read.", seen.looked
        )
        yield gauge("conveyor_exporter_refresh_duration_seconds", "How long that took.", seen.seconds)
        yield from families(seen.facts)

    def _loop(self) -> None:
        while True:
            try:
                self.look()
            except Exception as error:  # noqa: BLE001 - the next look may succeed; this thread must not end
                if self.seen.failures == 1 or self.seen.failures % 20 == 0:
                    explained = explain(error)
                    self._reporter.warning(
                        "the store cannot be read", what=explained.what, failures=self.seen.failures
                    )
            # A store that takes long to list is given as long a rest.
            if self._stop.wait(max(self._refresh_s, self.seen.seconds)):
                return
