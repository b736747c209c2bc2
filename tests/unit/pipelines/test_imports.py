"""What starts quickly stays quick: heavy libraries are imported where they are used."""

import subprocess
import sys

import pytest

from support.small_pipeline import environment

HEAVY = (
    "torch",
    "torchvision",
    "nvidia",
    "kfp",
    "onnx",
    "onnxruntime",
    "sklearn",
    "matplotlib",
    "horovod",
    "boto3",
)


def imported_by(code: str) -> set[str]:
    """Heavy top-level packages that a fresh Python has imported after `code`."""
    script = f"{code}\nimport sys\nprint(*sorted({set(HEAVY)!r} & {{name.partition('.')[0] for name in sys.modules}}))"
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment(), capture_output=True, text=True, check=True
    )
    return set(done.stdout.splitlines()[-1].split()) if done.stdout.strip() else set()


@pytest.mark.parametrize(
    "arguments", [["--help"], ["config"], ["config", "--schema"], ["run", "--help"], ["runs"]]
)
def test_commands_that_only_tell_something(
    arguments: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    assert imported_by(f"from pipelines.cli import invoke\ninvoke({arguments!r})") == set()


def test_looking_for_every_result_imports_nothing_heavy() -> None:
    code = (
        "from pipelines.graph import GRAPH\n"
        "from components.common.code import code_version\n"
        "[(step.program(), step.config_type(), code_version(step.package)) for step in GRAPH]"
    )
    assert imported_by(code) == set()
