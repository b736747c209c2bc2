"""The order of the cluster's tests."""

from pathlib import Path

import pytest

LONGEST = Path(__file__).with_name("test_training.py")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest file first: where files run side by side, nothing then waits for it alone at the end."""
    items.sort(key=lambda item: item.path != LONGEST)
