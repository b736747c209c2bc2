"""What a change of our code costs: the last layer, and nothing below it."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support.containers import docker, inspect
from support.small_pipeline import ROOT

pytestmark = [pytest.mark.containers, pytest.mark.timeout(1200, func_only=True)]

NAME = "conveyor-test:changed"
PARTS = {
    "components",
    "pipelines",
    "docker",
    "tools",
    "pyproject.toml",
    "constraints.txt",
    "README.md",
    "LICENSE",
}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the files that images are made of."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in listed.split("\0"):
        source, target = ROOT / name, tmp_path / name
        if name.split("/")[0] in {*PARTS, ".dockerignore"} and source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)
    return tmp_path


def test_a_change_of_our_code_makes_one_new_layer(image: str, tree: Path) -> None:
    if image != "conveyor:cpu":
        pytest.skip("the image under test was not built from this work tree")
    with (tree / "components/common/errors.py").open("a") as file:
        file.write("# one more line\n")
    command = [sys.executable, str(tree / "tools/images/build.py"), "cpu", "--tag", NAME]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout[-2000:] + built.stderr[-2000:]
    try:
        before, after = (inspect(each)["RootFS"]["Layers"] for each in (image, NAME))
        assert after[:-1] == before[:-1]
        assert after[-1] != before[-1]
    finally:
        docker("image", "rm", NAME)
