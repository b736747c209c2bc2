"""The order of the cluster's tests, and what the cluster looked like where one fails."""

from collections.abc import Generator, Iterable
from pathlib import Path

import pytest

from support.cluster_world import World, look_at

LONGEST = Path(__file__).with_name("test_training.py")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest file first: where files run side by side, nothing then waits for it alone at the end."""
    items.sort(key=lambda item: item.path != LONGEST)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """The namespace is gone when a person reads of the failure."""
    report = yield
    if report.failed and isinstance(item, pytest.Function):
        for world in worlds(item.funcargs.values()):
            report.sections.append((f"namespace {world.namespace}", look_at(world)))
    return report


def worlds(fixtures: Iterable[object]) -> list[World]:
    """The namespaces that a test was given, each once, whatever else a fixture is."""
    found: dict[str, World] = {}
    for fixture in fixtures:
        parts = vars(fixture).values() if hasattr(fixture, "__dict__") else ()
        found |= {each.namespace: each for each in (fixture, *parts) if isinstance(each, World)}
    return list(found.values())
