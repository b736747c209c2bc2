"""Settings of ingest that are refused, and which of them count."""

import pytest

from components.common.config import load_config, parse_override
from components.common.errors import InputError
from components.ingest.config import IngestConfig
from components.ingest.heads import dataset_name, line_of, pointer_name


def config(*settings: str) -> IngestConfig:
    return load_config(IngestConfig, None, [parse_override(text) for text in settings])


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        (["split.train=0.9"], "add up to 1, not to 1.1"),
        (["split.val=0", "split.train=0.9"], "greater than 0"),
        (["split.train=1.2"], "less than 1"),
        (["pattern=^[^/]+/"], "with a group"),
        (["pattern=("], "regular expression"),
        (["label_from=pattern"], "a pattern, since label_from is pattern"),
        (["label_from=folder", "pattern=(x)"], "no pattern"),
        (["near_duplicate=9"], "less than or equal to 7"),
        (["dataset=Not A Name"], "pattern"),
        (["num_workers=0"], "greater than or equal to 1"),
    ],
)
def test_impossible_settings_are_refused(settings: list[str], what: str) -> None:
    with pytest.raises(InputError) as caught:
        config(*settings)
    assert what in str(caught.value)
    assert settings[-1] in str(caught.value.where) or settings[0] in str(caught.value.where)


def test_where_the_data_lies_does_not_count() -> None:
    here, there = config("source=/a", "num_workers=1"), config("source=/b", "num_workers=4")
    assert here.key_fields() == there.key_fields()
    assert "source" not in here.key_fields()
    assert config("split.seed=1").key_fields() != config().key_fields()


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("/data/My Photos/", "my-photos"),
        ("s3://bucket/birds", "birds"),
        ("x/list.csv", "list"),
        ("x/all.tar.gz", "all"),
        ("/data/鳥", "dataset"),
    ],
)
def test_a_dataset_is_called_after_its_source(source: str, name: str) -> None:
    given = config(f"source={source}")
    assert dataset_name(given) == name
    assert pointer_name(given).startswith(f"datasets/{name}-")


def test_a_given_name_is_the_pointer() -> None:
    assert pointer_name(config("source=/a", "dataset=birds")) == "datasets/birds.json"
    assert pointer_name(config("source=/a")) != pointer_name(config("source=/b/a"))


def test_another_cut_is_another_line() -> None:
    assert line_of(config("split.seed=1")) != line_of(config())
    assert line_of(config("min_side=8")) == line_of(config())
