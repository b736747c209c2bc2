"""`conveyor models` as a person and as a script sees it."""

import json
from pathlib import Path
from typing import Any

import pytest

from pipelines.cli import invoke

pytestmark = pytest.mark.integration


@pytest.fixture
def filled(case: Any) -> Any:
    """Champion 2, retired 1, refused 3."""
    case.promote("fp32")
    case.promote("int8")
    case.promote("bad")
    return case


def models(case: Any, *arguments: str) -> int:
    return invoke(["models", *arguments, "--store", case.store.url.removeprefix("file://")])


def test_list(filled: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert models(filled, "list", "--json") == 0
    value = json.loads(capsys.readouterr().out)
    assert (value["registry"], value["champion"]) == ("digits", 2)
    assert [(v["version"], v["state"], v["candidate"]) for v in value["versions"]] == [
        (1, "retired", "fp32"),
        (2, "champion", "int8"),
        (3, "refused", "bad"),
    ]
    assert models(filled, "list") == 0
    out = capsys.readouterr().out
    assert len(out.splitlines()) == 4
    assert "champion" in out


def test_show(filled: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert models(filled, "show") == 0
    out = capsys.readouterr().out
    assert "# digits, version 2" in out
    assert "State: champion" in out
    assert "passed   not_inferior" in out
    assert models(filled, "show", "3", "--json") == 0
    value = json.loads(capsys.readouterr().out)
    assert value["state"] == "refused"
    assert value["decision"]["champion_before"] == 2
    assert value["lineage"]["references"]


def test_rollback_and_promote_tell_what_moved(filled: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert models(filled, "rollback", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {
        "registry": "digits",
        "champion": 1,
        "before": 2,
        "moved": True,
    }
    assert models(filled, "promote", "1") == 0
    assert "champion already" in capsys.readouterr().out
    assert models(filled, "list") == 0
    assert "rolled back" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (("show", "9"), 2, "no version 9"),
        (("show", "newest"), 2, "this is not a version"),
        (("promote", "9"), 2, "no version 9"),
        (("promote", "3"), 4, "--force overrules it"),
        (("rollback", "--to", "9"), 2, "no version 9"),
        (("list", "--registry", "letters"), 2, "no model is registered as letters"),
        (("promote", "two"), 2, "not a valid integer"),
    ],
)
def test_mistakes_are_explained(
    filled: Any, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], status: int, words: str
) -> None:
    assert models(filled, *arguments) == status
    err = capsys.readouterr().err
    assert words in err
    assert "Traceback" not in err
    assert filled.registry.pointer().champion == 2


def test_an_empty_store_says_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["models", "list", "--store", str(tmp_path)]) == 2
    assert "no model is registered in this store" in capsys.readouterr().err


def test_a_version_without_its_model_is_never_made_champion(
    filled: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    filled.store.delete(filled.registry.model_key(1))
    assert models(filled, "rollback") == 2
    assert "has no model file" in capsys.readouterr().err
    filled.store.put(filled.registry.model_key(1), b"damaged")
    assert models(filled, "rollback") == 3
    assert filled.registry.pointer().champion == 2
