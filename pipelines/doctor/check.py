"""Run all probes at once, none longer than its time limit."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

Status = Literal["ok", "missing", "failed"]


@dataclass(frozen=True)
class Check:
    """What one probe saw. `cure` is what to do about it, empty where all is well."""

    name: str
    status: Status
    found: str
    cure: str = ""

    def to_value(self) -> dict[str, str]:
        return asdict(self)


@dataclass(frozen=True)
class Probe:
    """One question to this machine, and how long it may think about it."""

    name: str
    ask: Callable[[], Check]
    limit_s: float


def ask_all(probes: Sequence[Probe]) -> Iterator[Check]:
    """Ask all at once; the answers come in the order of the probes, as they are there.

    What does not answer within its limit has failed; what raises has failed with its message.
    """
    answers: dict[str, Check] = {}
    start = time.monotonic()
    threads = []
    for probe in probes:
        # A daemon thread: one that hangs does not keep the process from ending.
        thread = threading.Thread(
            target=_ask, args=(probe, answers), daemon=True, name=f"doctor-{probe.name}"
        )
        thread.start()
        threads.append(thread)
    for probe, thread in zip(probes, threads, strict=True):
        thread.join(max(0.0, start + probe.limit_s - time.monotonic()))
        late = Check(
            probe.name, "failed", f"no answer within {probe.limit_s:g} s", "it hangs; try it by hand"
        )
        yield answers.get(probe.name, late)


def _ask(probe: Probe, answers: dict[str, Check]) -> None:
    try:
        answers[probe.name] = probe.ask()
    except Exception as error:  # noqa: BLE001 - whatever goes wrong is the finding
        answers[probe.name] = Check(probe.name, "failed", f"{type(error).__name__}: {error}")
