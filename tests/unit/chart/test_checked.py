"""What the usual checkers say of the chart: `helm lint --strict`, kube-score. (kubeconform: tests/cluster/test_chart.py.)"""

import json
import subprocess
from typing import Any

import pytest

from support.chart import CASES, CHART, helms, template, tool

if not helms():
    pytest.skip("no Helm here", allow_module_level=True)


@pytest.mark.parametrize("values", CASES.values(), ids=CASES)
@pytest.mark.parametrize("major", helms())
def test_helm_lint(major: str, values: dict[str, Any]) -> None:
    command: list[Any] = [helms()[major], "lint", "--strict", CHART, "--values", "-"]
    done = subprocess.run(command, input=json.dumps(values), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("values", CASES.values(), ids=CASES)
def test_kube_score(values: dict[str, Any]) -> None:
    program = tool("kube-score")
    if program is None:
        pytest.skip("no kube-score here")
    rendered = template(next(iter(helms().values())), "conveyor", "ml", json.dumps(values))
    # Exceptions to single objects stand with them, as annotations, each with its reason.
    command = [program, "score", "--ignore-container-cpu-limit", "-o", "ci", "-"]
    done = subprocess.run(command, input=rendered, capture_output=True, text=True, check=False)
    assert [line for line in done.stdout.splitlines() if line.startswith(("[CRITICAL", "[WARNING"))] == []
    assert done.returncode == 0, done.stderr
