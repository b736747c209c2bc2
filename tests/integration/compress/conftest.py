"""One trained network for all tests of the step."""

import pytest

from support.small_world import SmallWorld, make_small_world


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> SmallWorld:
    """Digits of four classes; read only (each test works on a copy of its store, or under settings of its own)."""
    return make_small_world(tmp_path_factory.mktemp("compress"), num_images=240, epochs=6, num_classes=4)
