"""The cure for torchvision without its compiled part, on a copy of the package with that part hidden."""

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
BROKEN_IMPORT = "import torchvision"
CURED = """
import torch
from components.common.torchvision_compat import import_torchvision
torchvision = import_torchvision()
assert import_torchvision() is torchvision
from torchvision.transforms import v2
model = torchvision.models.resnet18(num_classes=3).eval()
with torch.inference_mode():
    print(tuple(model(v2.CenterCrop(32)(torch.zeros(2, 3, 40, 40))).shape))
"""


@pytest.fixture(scope="module")
def hidden(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with torchvision whose `_C.so` is not there, as if it could not be loaded."""
    spec = find_spec("torchvision")
    assert spec is not None
    assert spec.origin is not None
    folder = tmp_path_factory.mktemp("site")
    shutil.copytree(
        Path(spec.origin).parent,
        folder / "torchvision",
        ignore=shutil.ignore_patterns("_C.*", "__pycache__"),
    )
    return folder


def run_python(code: str, *folders: Path) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, folders)), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=120, check=False
    )


def test_the_error_appears_without_the_cure(hidden: Path) -> None:
    broken = run_python(BROKEN_IMPORT, hidden)
    assert broken.returncode == 1
    assert "operator torchvision::nms does not exist" in broken.stderr


def test_the_cure_makes_models_and_transforms_work(hidden: Path) -> None:
    cured = run_python(CURED, hidden, ROOT)
    assert cured.returncode == 0, cured.stderr
    assert cured.stdout.strip() == "(2, 3)"


def test_an_intact_torchvision_is_left_alone() -> None:
    intact = run_python(CURED, ROOT)
    assert intact.returncode == 0, intact.stderr
    assert intact.stdout.strip() == "(2, 3)"
