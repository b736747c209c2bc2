"""What only the whole config can know."""

import pytest

from components.common.errors import InputError
from pipelines.config import read_config
from pipelines.graph import GRAPH


@pytest.mark.parametrize("setting", ["resources", "placement"])
def test_pods_of_a_step_that_is_none_are_refused_with_the_nearest_name(setting: str) -> None:
    with pytest.raises(InputError) as refused:
        read_config(GRAPH, text=f"kubernetes: {{{setting}: {{trian: {{}}}}}}")
    assert f"kubernetes.{setting}" in str(refused.value)
    assert "did you mean train?" in str(refused.value)


def test_every_step_and_the_other_pods_may_have_their_own() -> None:
    names = [*GRAPH.names(), "default", "launcher", "report", "setup"]
    text = (
        "kubernetes: {placement: {" + ", ".join(f"{name}: {{node_selector: {{}}}}" for name in names) + "}}"
    )
    assert set(read_config(GRAPH, text=text).kubernetes.placement) == set(names)
