"""The chart's README and schema are what values.yaml and the pipeline's settings say now."""

import json
from pathlib import Path

import chart
import jsonschema
import pytest
import yaml
from chart_docs.values import read_values

from support.chart import CHART
from support.snippets import Snippet, links, snippets

SCHEMA = json.loads((CHART / "values.schema.json").read_text())


@pytest.mark.parametrize("path", chart.generated(), ids=lambda path: path.name)
def test_current(path: Path) -> None:
    assert path.read_text() == chart.generated()[path], "not current: make chart"


def test_every_value_is_described() -> None:
    with pytest.raises(ValueError, match=r"values.yaml:3: there.bare has no comment"):
        read_values("there:\n  # This one is.\n  bare: 1\n".replace("  # This one is.\n", "\n"))
    (group,) = read_values('# A group.\nthere:\n  # Said\n  # twice.\n  # @schema {"enum": [1]}\n  bare: 1\n')
    (value,) = group.leaves()
    assert (value.name, value.default, value.description) == ("there.bare", 1, "Said twice.")
    assert value.extra == {"enum": [1]}


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"global": {"imageRegistry": "x"}},
        {"config": {"train": {"epochs": 3, "learning_rate": 1e-05, "ema_decay": None}}},
        {"config": {"kubernetes": {"training": {"pods": 4}}}},
        {"storage": {"bucket": {"create": True}, "minio": {"resources": {"limits": {"memory": "2Gi"}}}}},
        {"tolerations": [{"key": "gpu", "operator": "Exists"}], "podLabels": {"a": "b"}},
        {
            "podSecurityContext": {
                "runAsUser": None,
                "supplementalGroups": [7],
                "seccompProfile": {"type": "Localhost"},
            }
        },
        {"securityContext": {"capabilities": {"drop": ["ALL"]}, "seLinuxOptions": {"level": "s0"}}},
        {
            "networkPolicy": {
                "store": {"to": [{"podSelector": {}}], "ports": [9000]},
                "dns": {"ports": [5353]},
            }
        },
    ],
)
def test_right_values_are_accepted(values: object) -> None:
    jsonschema.validate(values, SCHEMA)


@pytest.mark.parametrize(
    "values",
    [
        {"storge": {}},
        {"storage": {"kind": "mino"}},
        {"storage": {"minio": {"persistence": {"sise": "1Gi"}}}},
        {"config": {"trian": {}}},
        {"config": {"train": {"epochs": "three"}}},
        {"config": {"kubernetes": {"training": {"pod": 4}}}},
        {"metrics": {"port": 80}},
        {"retrain": {"args": "--quiet"}},
        {"podLabels": {"a": 1}},
        {"image": {"pullPolicy": "always"}},
        {"podSecurityContext": {"runAsUsr": 5000}},
        {"podSecurityContext": {"runAsUser": 0}},
        {"securityContext": {"runAsUser": 0}},
        {"podSecurityContext": {"readOnlyRootFilesystem": True}},
        {"podSecurityContext": {"seccompProfile": {"type": "runtimeDefault"}}},
        {"securityContext": {"fsGroup": 5000}},
        {"securityContext": {"capabilities": {"drop": "ALL"}}},
        {"networkPolicy": {"store": {"to": {"podSelector": {}}}}},
        {"networkPolicy": {"dns": {"ports": []}}},
        {"networkPolicy": {"apiServer": {"ports": []}}},
        {"networkPolicy": {"webhook": {"ports": []}}},
    ],
)
def test_wrong_values_are_refused(values: object) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(values, SCHEMA)


SHOWN = [
    snippet
    for page in (CHART / "README.md", CHART.parents[1] / "docs" / "kubernetes" / "chart.md")
    for snippet in snippets(page)
    if snippet.language == "yaml"
]


@pytest.mark.parametrize("snippet", SHOWN, ids=lambda snippet: f"{snippet.page.name}:{snippet.line}")
def test_values_that_pages_show_are_accepted(snippet: Snippet) -> None:
    jsonschema.validate(yaml.safe_load(snippet.body), SCHEMA)


def test_links_of_the_readme_lead_somewhere() -> None:
    assert [target for target in links(CHART / "README.md") if not (CHART / target).exists()] == []
