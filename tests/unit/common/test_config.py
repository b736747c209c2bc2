"""Settings: strict, and every refusal says where and what."""

import json
from pathlib import Path
from typing import Annotated

import pytest
from pydantic import Field

from components.common.config import NotInKey, StepConfig, load_config, parse_override
from components.common.errors import InputError


class Inner(StepConfig):
    """An inner group."""

    rate: float = Field(default=0.1, gt=0)
    """How fast."""
    names: tuple[str, ...] = ("a",)
    """Which ones."""


class Sample(StepConfig):
    """A sample."""

    epochs: int | None = None
    """How often."""
    workers: Annotated[int, NotInKey] = 1
    """How many."""
    inner: Inner = Field(default_factory=Inner)
    """More."""
    folder: Annotated[Path | None, NotInKey] = None
    """Where."""
    extra: Inner | None = None
    """An optional group."""


def refusal(text: str, *settings: str) -> InputError:
    with pytest.raises(InputError) as caught:
        load_config(Sample, None, [parse_override(setting) for setting in settings], text=text)
    return caught.value


def test_an_empty_config_is_all_defaults() -> None:
    assert load_config(Sample, text="") == Sample()
    assert load_config(Sample, text="# only a comment\n") == Sample()


def test_lists_become_tuples_and_ints_become_floats_where_the_field_says_so() -> None:
    config = load_config(Sample, text="inner: {rate: 1, names: [x, y]}")
    assert config.inner.rate == 1.0
    assert config.inner.names == ("x", "y")


@pytest.mark.parametrize("text", ["1e-05", "1e-5", "1.e-5", "+1E-5", "1.0e-05", "0.00001"])
def test_numbers_with_an_exponent_are_numbers(text: str) -> None:
    """YAML 1.2's, and what Helm and other Go programs write; PyYAML alone takes 1e-05 for a word."""
    assert load_config(Sample, text=f"inner: {{rate: {text}}}").inner.rate == 1e-5
    assert parse_override(f"rate={text}").value == 1e-5


def test_a_group_with_nothing_below_it_is_its_defaults() -> None:
    assert load_config(Sample, text="inner:\n  # rate: 3\nextra:\n") == Sample()


def test_an_unknown_key_names_its_place_and_the_nearest_name(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("epochs: 3\ninner:\n  rat: 0.5\n")
    with pytest.raises(InputError) as caught:
        load_config(Sample, file)
    assert caught.value.what == "unknown setting inner.rat"
    assert caught.value.where == f"{file}:3:3"
    assert caught.value.expected == "one of names, rate"
    assert caught.value.todo == "did you mean inner.rate?"


def test_an_unknown_key_of_an_optional_group_is_explained_too() -> None:
    assert refusal("extra: {rat: 1}").todo == "did you mean extra.rate?"


def test_a_wrong_type_names_key_place_expectation_and_value() -> None:
    error = refusal("\nepochs: many\n")
    assert "epochs" in error.what
    assert error.where == "the given config:2:1"
    assert error.expected is not None
    assert "integer" in error.expected
    assert error.found == "'many'"


@pytest.mark.parametrize("text", ["epochs: '3'", "epochs: 3.5", "epochs: true", "inner: {rate: '1'}"])
def test_nothing_is_converted_in_silence(text: str) -> None:
    refusal(text)


def test_a_value_out_of_range_is_refused() -> None:
    error = refusal("inner:\n  rate: 0\n")
    assert error.expected is not None
    assert "greater than 0" in error.expected
    assert error.where == "the given config:2:3"


@pytest.mark.parametrize("text", ["inner: {rate: .nan}", "inner: {rate: .inf}"])
def test_infinities_and_nan_are_refused(text: str) -> None:
    refusal(text)


def test_a_key_that_stands_twice_is_refused() -> None:
    error = refusal("inner:\n  rate: 1\n  rate: 2\n")
    assert error.what == "the key inner.rate stands twice"
    assert error.where == "the given config:3:3"


def test_broken_yaml_names_the_place() -> None:
    assert (refusal("epochs: [1, 2\ninner: {").where or "").startswith("the given config:2:")


@pytest.mark.parametrize("text", ["- a\n- b\n", "just words"])
def test_a_config_that_is_no_mapping_is_refused(text: str) -> None:
    assert refusal(text).expected == "key: value"


@pytest.mark.parametrize("text", ["? [1, 2]\n: x\n", "? {a: 1}\n: x\n", "1: 2\n", "true: 2\n", "null: 2\n"])
def test_keys_that_are_no_words_are_refused(text: str) -> None:
    refusal(text)


def test_yaml_that_refers_to_itself_is_refused() -> None:
    refusal("inner: &a\n  rate: *a\n")


def test_dates_and_other_yaml_types_are_shown_as_they_stand() -> None:
    assert refusal("epochs: 2026-11-23").found == "'2026-11-23'"


def test_a_missing_file_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such config file"):
        load_config(Sample, tmp_path / "none.yaml")


def test_a_folder_or_binary_file_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        load_config(Sample, tmp_path)
    (tmp_path / "b").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="cannot be read"):
        load_config(Sample, tmp_path / "b")


def test_settings_win_over_the_file_and_later_ones_over_earlier_ones() -> None:
    settings = [parse_override(text) for text in ("epochs=2", "inner.rate=0.3", "epochs=4")]
    config = load_config(Sample, None, settings, text="epochs: 1\n")
    assert (config.epochs, config.inner.rate) == (4, 0.3)


def test_a_setting_can_be_a_list_or_null() -> None:
    settings = [parse_override(text) for text in ("epochs=null", "inner.names=[x, y]")]
    config = load_config(Sample, None, settings, text="epochs: 1\n")
    assert (config.epochs, config.inner.names) == (None, ("x", "y"))


def test_a_wrong_setting_is_named_as_it_was_given() -> None:
    assert refusal("", "inner.rate=fast").where == "--set inner.rate=fast"
    assert refusal("", "iner.rate=1").where == "--set iner.rate=1"
    assert refusal("", "iner.rate=1").todo == "did you mean inner?"
    assert refusal("", "epochs.deep=1").where == "--set epochs.deep=1"
    assert refusal("epochs: 1", "epochs.deep=1").where == "--set epochs.deep=1"


@pytest.mark.parametrize("text", ["epochs", "=3", " =3", "epochs=[1", "a..b=1", ".a=1", "a.=1"])
def test_a_malformed_setting_is_refused(text: str) -> None:
    assert f"--set {text}" in (refusal("", text).where or "")


def test_the_key_leaves_out_what_does_not_change_the_result() -> None:
    few, many = Sample(workers=1), Sample(workers=8, folder=Path("/somewhere"))
    assert few.key_fields() == many.key_fields()
    assert few.key_fields() == {
        "epochs": None,
        "inner": {"rate": 0.1, "names": ["a"]},
        "extra": None,
    }
    json.dumps(few.key_fields(), allow_nan=False)


def test_the_key_changes_with_every_other_field() -> None:
    assert Sample().key_fields() != Sample(inner=Inner(rate=0.2)).key_fields()
    assert Sample().key_fields() != Sample(extra=Inner()).key_fields()


def test_fields_are_described_by_their_docstrings() -> None:
    assert Sample.model_json_schema()["properties"]["epochs"]["description"] == "How often."
