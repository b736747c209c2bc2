"""The images under test. Built by `make image` from the work tree, or named by the environment."""

import pytest

from support.containers import Box, built, need_engine


@pytest.fixture(scope="session")
def image() -> str:
    """conveyor:cpu, or what CONVEYOR_TEST_IMAGE names."""
    need_engine()
    return built("cpu", "CONVEYOR_TEST_IMAGE")


@pytest.fixture(scope="session")
def mpi_image() -> str:
    """conveyor:mpi, or what CONVEYOR_TEST_MPI_IMAGE names."""
    need_engine()
    return built("mpi", "CONVEYOR_TEST_MPI_IMAGE")


@pytest.fixture(scope="session")
def box(image: str) -> Box:
    """Containers of the image with nothing mounted."""
    return Box(image)
