"""A GPU that cannot be used: whether the machine is to blame, or the image."""

import pytest
import torch

from components.common.errors import StepError
from components.train.trainer import _check_cuda

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="torch can use a GPU here")


def test_an_image_for_cpus_names_those_for_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVEYOR_ACCELERATOR", "cpu")
    with pytest.raises(StepError, match="image for CPUs") as caught:
        _check_cuda()
    assert "conveyor:cuda" in str(caught.value)
    assert "conveyor:mpi-cuda" in str(caught.value)
    assert "driver" not in str(caught.value)


@pytest.mark.parametrize("image", ["cuda", None])
def test_elsewhere_it_is_the_driver(monkeypatch: pytest.MonkeyPatch, image: str | None) -> None:
    monkeypatch.delenv("CONVEYOR_ACCELERATOR", raising=False)
    if image:
        monkeypatch.setenv("CONVEYOR_ACCELERATOR", image)
    with pytest.raises(StepError, match="check the driver"):
        _check_cuda()
