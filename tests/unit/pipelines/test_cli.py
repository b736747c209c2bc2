"""The command line on a graph of one small step: results, exit statuses, messages."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from pipelines.app import COMMANDS
from pipelines.cli import invoke
from pipelines.graph import Graph, Step

GRAPH = Graph((Step("dummy", "support.dummy"),))
SCHEMA = json.loads(Path("docs/run.schema.json").read_text())


class Command:
    """Runs command lines in a folder of its own."""

    def __init__(self, capfd: pytest.CaptureFixture[str]) -> None:
        self._capfd = capfd

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        status = invoke(arguments, GRAPH)
        out, err = self._capfd.readouterr()
        assert "Traceback" not in err
        return status, out, err

    def json(self, *arguments: str) -> tuple[int, dict[str, Any], str]:
        status, out, err = self("run", "--json", *arguments)
        value = json.loads(out)
        jsonschema.validate(value, SCHEMA)
        return status, value, err


@pytest.fixture
def conveyor(capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    monkeypatch.chdir(tmp_path)
    return Command(capfd)


def test_help_lists_the_commands_without_importing_them(conveyor: Command) -> None:
    status, out, _ = conveyor("--help")
    assert status == 0
    assert all(f"\n  {name} " in out for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(conveyor: Command, name: str) -> None:
    status, out, _ = conveyor(name, "--help")
    assert status == 0
    assert "Usage: conveyor" in out


def test_a_misspelt_command_is_recognised(conveyor: Command) -> None:
    status, _, err = conveyor("rnu")
    assert status == 2
    assert "Did you mean 'run'?" in err


def test_run_keeps_the_contract_and_reuses(conveyor: Command) -> None:
    status, first, _ = conveyor.json("--run", "one")
    assert status == 0
    assert (first["state"], first["steps"]["dummy"]["state"]) == ("succeeded", "done")
    assert first["steps"]["dummy"]["output"]["words"] == "hello"
    status, second, _ = conveyor.json()
    assert status == 0
    assert second["steps"]["dummy"]["state"] == "reused"
    assert second["steps"]["dummy"]["key"] == first["steps"]["dummy"]["key"]
    assert second["run"] != "one"


def test_results_go_to_stdout_and_progress_to_stderr(conveyor: Command) -> None:
    status, out, err = conveyor("run", "--run", "one")
    assert status == 0
    assert out.startswith("run one succeeded in ")
    assert "[1/1] dummy" in err
    _, out, err = conveyor("run", "--quiet")
    assert out.startswith("run 20")
    assert err == ""


@pytest.mark.parametrize(
    ("behaviour", "code", "words"),
    [
        ("input_error", 2, "the dummy does not like this"),
        ("bug", 3, "ZeroDivisionError"),
        ("disk_full", 3, "the disk is full"),
    ],
)
def test_a_failed_step(conveyor: Command, behaviour: str, code: int, words: str) -> None:
    status, value, err = conveyor.json("--set", f"dummy.behaviour={behaviour}")
    assert status == code
    assert (value["state"], value["error"]["step"], value["error"]["exit_code"]) == ("failed", "dummy", code)
    assert value["steps"]["dummy"]["state"] == "failed"
    assert words in err
    assert err.count("error:") == 1
    assert conveyor("run")[0] == 0


def test_debug_shows_the_traceback(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    status = invoke(["run", "--store", str(tmp_path / "s"), "--debug", "--set", "dummy.behaviour=bug"], GRAPH)
    assert status == 3
    assert "Traceback" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--set", "dumy.times=2"], "did you mean dummy?"),
        (["--set", "dummy.time=2"], "did you mean dummy.times?"),
        (["--set", "dummy.times=99"], "less than or equal to 9"),
        (["--set", "dummy.times"], "key=value"),
        (["-f", "none.yaml"], "no such config file"),
        (["--until", "dumy"], "there is no step called dumy"),
        (["--run", "No Good"], "not a usable run name"),
        (["--store", "ftp://here/there"], "store's URL"),
    ],
)
def test_nothing_starts_with_wrong_settings(
    conveyor: Command, tmp_path: Path, arguments: list[str], words: str
) -> None:
    status, value, err = conveyor.json(*arguments)
    assert status == 2
    assert words in err
    assert value["error"]["exit_code"] == 2
    assert value["steps"] == {}
    assert list(tmp_path.iterdir()) == []


def test_config_prints_a_file_that_gives_the_same_again(conveyor: Command, tmp_path: Path) -> None:
    status, out, _ = conveyor("config", "--set", "dummy.times=3")
    assert status == 0
    (tmp_path / "c.yaml").write_text(out)
    assert conveyor("config", "-f", "c.yaml")[1] == out
    assert yaml.safe_load(out)["dummy"]["times"] == 3


def test_an_empty_section_is_its_defaults(conveyor: Command, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("dummy:\n  # times: 3\nstore:\n")
    assert conveyor("config", "-f", "c.yaml")[0] == 0


def test_the_schema_describes_every_field(conveyor: Command) -> None:
    status, out, _ = conveyor("config", "--schema")
    assert status == 0
    schema = json.loads(out)
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(yaml.safe_load(conveyor("config")[1]), schema)
    assert schema["$defs"]["DummyConfig"]["properties"]["times"]["description"] == "How often it says so."


def test_step_runs_one_step_and_prints_its_reference(conveyor: Command, tmp_path: Path) -> None:
    arguments = (
        "step",
        "dummy",
        "--run",
        "r",
        "--store",
        "s",
        "--set",
        "dummy.times=2",
        "--output",
        "ref.json",
    )
    status, out, _ = conveyor(*arguments)
    assert status == 0
    assert json.loads(out)["words"] == "hello hello"
    assert json.loads((tmp_path / "ref.json").read_text()) == json.loads(out)
    assert conveyor(*arguments)[1] == out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--input", "snapshot=run:ingest"], "add --run ID"),
        (["--input", "snapshot=run:ingest", "--run", "r"], "run ingest first"),
        (["--input", "snapshot=missing.json"], "cannot be read"),
        (["--input", "shapshot=x"], "no input called shapshot"),
        (["--input", "snapshot"], "name=FILE or name=run:STEP"),
    ],
)
def test_wrong_inputs_of_a_step(conveyor: Command, arguments: list[str], words: str) -> None:
    status, _, err = conveyor("step", "dummy", "--store", "s", *arguments)
    assert status == 2
    assert words in err


def test_runs_lists_what_ran_and_how_it_ended(conveyor: Command) -> None:
    conveyor("run", "--run", "ill", "--set", "dummy.behaviour=bug")
    conveyor("run", "--run", "good")
    status, out, _ = conveyor("runs")
    assert status == 0
    lines = out.splitlines()
    assert any("good" in line and "succeeded" in line for line in lines)
    assert any("ill" in line and "failed" in line for line in lines)
    status, out, _ = conveyor("runs", "--json")
    assert {run["run"]: run["state"] for run in json.loads(out)} == {"good": "succeeded", "ill": "failed"}


def test_runs_of_an_empty_store(conveyor: Command) -> None:
    status, out, err = conveyor("runs")
    assert status == 0
    assert out == ""
    assert "no runs" in err


def test_a_report_of_a_run_that_is_not_there(conveyor: Command) -> None:
    status, _, err = conveyor("report", "none")
    assert status == 2
    assert "there is no such run" in err
