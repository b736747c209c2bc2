"""What only the whole config can know."""

import pytest

from components.common.errors import InputError
from pipelines.config import read_config
from pipelines.graph import GRAPH


@pytest.mark.parametrize("setting", ["resources", "placement"])
def test_pods_of_a_step_that_is_none_are_refused_with_place_and_nearest_name(setting: str) -> None:
    with pytest.raises(InputError) as refused:
        read_config(GRAPH, text=f"kubernetes:\n  {setting}:\n    ingest: {{}}\n    trian: {{}}\n")
    assert refused.value.what == f"unknown setting kubernetes.{setting}.trian"
    assert refused.value.where == "the given config:4:5"
    assert refused.value.todo == f"did you mean kubernetes.{setting}.train?"
    assert "compress, evaluate" in str(refused.value.expected)


def test_pods_of_a_step_that_is_none_are_refused_beside_what_else_is_wrong() -> None:
    with pytest.raises(InputError) as refused:
        read_config(GRAPH, text="train: {epochs: -1}\nkubernetes: {resources: {trian: {cpu: 1}}}")
    assert refused.value.what == "unknown setting kubernetes.resources.trian (and 1 more)"


def test_every_step_and_the_other_pods_may_have_their_own() -> None:
    names = [*GRAPH.names(), "default", "launcher", "report", "setup"]
    text = (
        "kubernetes: {placement: {" + ", ".join(f"{name}: {{node_selector: {{}}}}" for name in names) + "}}"
    )
    assert set(read_config(GRAPH, text=text).kubernetes.placement) == set(names)
