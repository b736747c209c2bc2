"""Latency of several models on this machine, measured so that their ratio means something."""

import gc
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

import numpy as np

MAX_CALLS_PER_BLOCK = 200


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds per call."""

    p50_ms: float
    """Median of the quietest round: what else runs on the machine can only add time, never take any away."""
    p95_ms: float
    p99_ms: float
    num_calls: int
    spread: float
    """Largest over smallest median of a round: how restless the machine was."""

    def to_value(self) -> dict[str, float | int]:
        return {
            name: round(value, 6) if isinstance(value, float) else value
            for name, value in asdict(self).items()
        }


def measure_interleaved(
    calls: Mapping[str, Callable[[], object]],
    *,
    rounds: int,
    warmup: int,
    seconds: float,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Latency]:
    """Time every call in every round, in rotating order, some `seconds` in all; nothing runs side by side.

    Each block of counted calls follows `warmup` uncounted ones, which also wait out the threads that the model before
    left spinning. However slow the calls, each is timed once at least; once the time is up no further round begins.
    """
    names = list(calls)
    blocks: dict[str, list[list[float]]] = {name: [] for name in names}
    deadline = clock() + seconds
    share = seconds / (rounds * max(len(names), 1))
    collecting = gc.isenabled()
    gc.disable()
    try:
        for index in range(rounds):
            if index and clock() >= deadline:
                break
            turn = index % len(names)
            for name in names[turn:] + names[:turn]:
                blocks[name].append(_block(calls[name], warmup, share, clock))
    finally:
        if collecting:
            gc.enable()
    return {name: _summary(times) for name, times in blocks.items()}


def _block(
    call: Callable[[], object], warmup: int, seconds: float, clock: Callable[[], float]
) -> list[float]:
    end = clock() + seconds
    for _ in range(warmup):
        call()
        if clock() >= end:
            break  # a slow call needs no more: the first one has loaded what there is to load
    times: list[float] = []
    while not times or (clock() < end and len(times) < MAX_CALLS_PER_BLOCK):
        start = clock()
        call()
        times.append(clock() - start)
    return times


def _summary(blocks: list[list[float]]) -> Latency:
    whole = np.array([time for block in blocks for time in block]) * 1e3
    medians = [float(np.median(block)) for block in blocks]
    p95, p99 = (float(value) for value in np.percentile(whole, [95, 99]))
    quietest = min(medians)
    return Latency(quietest * 1e3, p95, p99, len(whole), max(medians) / max(quietest, 1e-9))


def cpu_model() -> str:
    """The processor's own name, for the record of a measurement."""
    import platform
    from pathlib import Path

    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
