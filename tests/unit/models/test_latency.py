from collections.abc import Callable

import pytest

from components.models.latency import measure_interleaved


class World:
    """A clock that only the measured calls move."""

    def __init__(self, costs: dict[str, float]) -> None:
        self.now, self.costs = 0.0, costs
        self.log: list[str] = []

    def clock(self) -> float:
        return self.now

    def calls(self) -> dict[str, Callable[[], None]]:
        def make(name: str) -> Callable[[], None]:
            def call() -> None:
                self.log.append(name)
                self.now += self.costs[name]

            return call

        return {name: make(name) for name in self.costs}


def test_medians_are_right_and_the_time_is_kept() -> None:
    world = World({"slow": 0.010, "fast": 0.001})
    found = measure_interleaved(world.calls(), rounds=5, warmup=2, seconds=2.0, clock=world.clock)
    assert found["slow"].p50_ms == pytest.approx(10)
    assert found["fast"].p99_ms == pytest.approx(1)
    assert found["fast"].spread == pytest.approx(1)
    assert world.now <= 2.0 + 0.1


def test_everybody_comes_in_every_round_and_nobody_is_always_first() -> None:
    world = World({"a": 0.01, "b": 0.01, "c": 0.01})
    measure_interleaved(world.calls(), rounds=3, warmup=1, seconds=0.27, clock=world.clock)
    firsts = [world.log[0]]
    blocks = [name for i, name in enumerate(world.log) if i == 0 or world.log[i - 1] != name]
    assert sorted(blocks[:3]) == sorted(blocks[3:6]) == sorted(blocks[6:9]) == ["a", "b", "c"]
    firsts = [blocks[0], blocks[3], blocks[6]]
    assert firsts == ["a", "b", "c"]


def test_calls_slower_than_the_whole_budget_are_still_timed_once() -> None:
    world = World({"huge": 60.0, "small": 0.001})
    found = measure_interleaved(world.calls(), rounds=7, warmup=3, seconds=1.0, clock=world.clock)
    assert found["huge"].num_calls == 1
    assert found["huge"].p50_ms == pytest.approx(60_000)
    assert found["small"].num_calls >= 1
    assert world.log.count("huge") == 2, "one call to warm up, one that counts"


def test_a_restless_machine_shows() -> None:
    world = World({"a": 0.01})
    calls = world.calls()
    original = calls["a"]

    def restless() -> None:
        world.costs["a"] = 0.05 if world.now > 0.5 else 0.01
        original()

    found = measure_interleaved({"a": restless}, rounds=4, warmup=1, seconds=1.0, clock=world.clock)
    assert found["a"].spread > 3
    assert found["a"].p50_ms == pytest.approx(10), (
        "what disturbs a round must not count as the model's own time"
    )
    assert found["a"].p95_ms == pytest.approx(50)


def test_a_figure_is_plain_json() -> None:
    world = World({"a": 0.01})
    found = measure_interleaved(world.calls(), rounds=1, warmup=1, seconds=0.1, clock=world.clock)
    value = found["a"].to_value()
    assert set(value) == {"p50_ms", "p95_ms", "p99_ms", "num_calls", "spread"}
    assert isinstance(value["num_calls"], int)
