"""The table of steps: names, edges, and that each edge fits its step."""

import pytest

from components.common.errors import InputError
from pipelines.graph import GRAPH, Graph, Step


def test_the_six_steps_stand_in_order() -> None:
    assert GRAPH.names() == ("ingest", "preprocess", "train", "evaluate", "compress", "promote")


@pytest.mark.parametrize("step", GRAPH.steps, ids=lambda step: step.name)
def test_every_edge_fills_a_field_and_every_needed_field_has_an_edge(step: Step) -> None:
    fields = step.inputs_type().model_fields
    assert set(step.inputs) <= set(fields)
    assert {name for name, field in fields.items() if field.is_required()} <= set(step.inputs)


@pytest.mark.parametrize("step", GRAPH.steps, ids=lambda step: step.name)
def test_every_program_is_called_like_its_row(step: Step) -> None:
    assert step.name == step.program().NAME
    assert step.config_type()() is not None


def test_two_steps_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="two steps are called a"):
        Graph((Step("a", "p"), Step("a", "q")))


def test_a_step_above_its_input_is_refused() -> None:
    with pytest.raises(ValueError, match="b needs a, which must stand above it"):
        Graph((Step("b", "p", {"x": "a"}), Step("a", "p")))


def test_an_unknown_step_lists_the_known_ones() -> None:
    with pytest.raises(InputError) as caught:
        GRAPH.until("trian")
    assert "ingest, preprocess, train" in (caught.value.expected or "")


def test_until_keeps_the_part_up_to_a_step() -> None:
    assert GRAPH.until("train").names() == ("ingest", "preprocess", "train")
    assert GRAPH.until(None) is GRAPH


def test_a_step_can_be_added() -> None:
    assert GRAPH.with_step(Step("dummy", "support.dummy", {"snapshot": "ingest"})).names()[-1] == "dummy"
    assert "dummy" not in GRAPH.names()
