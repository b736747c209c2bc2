"""`conveyor schedule` against a server that speaks Kubeflow's REST API v2beta1 (support/kfp_server.py)."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from components.common.errors import InputError
from pipelines.cli import invoke
from pipelines.kubeflow.when import When, check_cron, parse_when
from support.kfp_checks import RefusedError
from support.kfp_checks import check_cron as servers_check
from support.kfp_server import KfpServer

pytestmark = pytest.mark.integration

STORE = ("--store", "s3://b/p")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[KfpServer]:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    with KfpServer() as running:
        monkeypatch.setenv("KF_PIPELINES_ENDPOINT", running.url)
        yield running


def schedule(*arguments: str) -> int:
    return invoke(["schedule", *arguments])


def listed(capsys: pytest.CaptureFixture[str]) -> list[Any]:
    capsys.readouterr()
    assert schedule("list", "--json") == 0
    found: list[Any] = json.loads(capsys.readouterr().out)
    return found


def test_created_listed_paused_resumed_and_removed(
    server: KfpServer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert schedule("list") == 0
    assert "no schedules" in capsys.readouterr().err
    assert schedule("create", "nightly", "--cron", "0 0 3 * * MON-FRI", *STORE, "--epochs", "4") == 0
    assert capsys.readouterr().out == "created nightly: 0 0 3 * * MON-FRI\n"
    (made,) = server.backend.recurring.values()
    assert made["max_concurrency"] == "1"
    assert made["no_catchup"] is True
    assert made["trigger"]["cron_schedule"]["cron"] == "0 0 3 * * MON-FRI"
    assert made["runtime_config"]["parameters"] == {"store": "s3://b/p", "epochs": 4}
    assert made["pipeline_version_reference"]["pipeline_version_id"] in server.backend.versions

    assert schedule("create", "hourly", "--every", "1h", *STORE) == 0
    rows = listed(capsys)
    assert [(row["name"], row["state"], row["when"]) for row in rows] == [
        ("hourly", "on", "every 3600 s"),
        ("nightly", "on", "0 0 3 * * MON-FRI"),
    ]
    assert schedule("pause", "nightly") == 0
    assert {row["name"]: row["state"] for row in listed(capsys)} == {"hourly": "on", "nightly": "paused"}
    assert schedule("list") == 0
    assert "nightly  paused  0 0 3" in capsys.readouterr().out
    assert schedule("resume", "nightly") == 0
    assert {row["state"] for row in listed(capsys)} == {"on"}
    assert schedule("remove", "nightly") == 0
    assert [row["name"] for row in listed(capsys)] == ["hourly"]


def test_a_schedule_of_the_same_name_is_replaced_and_stays_paused(
    server: KfpServer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert schedule("create", "nightly", "--every", "6h", *STORE, "--epochs", "4") == 0
    (first,) = server.backend.recurring
    assert schedule("pause", "nightly") == 0
    capsys.readouterr()
    assert schedule("create", "nightly", "--every", "1d", *STORE, "--epochs", "5") == 0
    assert capsys.readouterr().out == "replaced nightly: every 86400 s\n"
    (second,) = server.backend.recurring
    assert second != first
    (row,) = listed(capsys)
    assert (row["when"], row["state"], row["parameters"]["epochs"]) == ("every 86400 s", "paused", 5)
    posted = server.requests.index("POST /recurringruns", server.requests.index("POST /recurringruns") + 1)
    assert posted < server.requests.index(f"DELETE /recurringruns/{first}")


def test_more_schedules_than_fit_a_page(
    server: KfpServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("pipelines.kubeflow.schedules.PAGE", 2)
    for number in range(5):
        assert schedule("create", f"s{number}", "--every", "6h", *STORE) == 0
    assert [row["name"] for row in listed(capsys)] == [f"s{number}" for number in range(5)]


def a_foreign_one(server: KfpServer, name: str) -> str:
    """A recurring run of somebody else's pipeline; returns its id."""
    spec = next(iter(server.backend.versions.values()))["pipeline_spec"]
    made = server.backend.create_recurring(
        {
            "display_name": name,
            "description": "hands off",
            "pipeline_spec": spec,
            "mode": "ENABLE",
            "max_concurrency": "1",
            "trigger": {"periodic_schedule": {"interval_second": "3600"}},
            "runtime_config": {"parameters": {"store": "s3://b/p"}},
        }
    )
    return str(made["recurring_run_id"])


def test_what_others_made_is_left_alone(server: KfpServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert schedule("create", "nightly", "--every", "6h", *STORE) == 0
    foreign = a_foreign_one(server, "theirs")
    before = dict(server.backend.recurring[foreign])
    assert [row["name"] for row in listed(capsys)] == ["nightly"]
    for words in (("pause",), ("resume",), ("remove",), ("create", "--every", "6h", *STORE)):
        assert schedule(words[0], "theirs", *words[1:]) == 2
        assert "the recurring run theirs is not Conveyor's" in capsys.readouterr().err
    assert server.backend.recurring[foreign] == before
    assert len(server.backend.recurring) == 2


def test_one_of_our_pipeline_that_was_made_by_hand_is_ours(
    server: KfpServer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert schedule("create", "nightly", "--every", "6h", *STORE) == 0
    (made,) = server.backend.recurring.values()
    made["description"] = "made in the interface"
    assert [row["name"] for row in listed(capsys)] == ["nightly"]
    assert schedule("remove", "nightly") == 0
    assert server.backend.recurring == {}


@pytest.mark.parametrize("word", ["remove", "create"])
def test_a_run_under_way_outlives_its_schedule(server: KfpServer, word: str) -> None:
    assert schedule("create", "nightly", "--every", "6h", *STORE) == 0
    (recurring,) = server.backend.recurring
    run = server.backend.tick(recurring)
    more = ("--every", "1d", *STORE) if word == "create" else ()
    assert schedule(word, "nightly", *more) == 0
    assert recurring not in server.backend.recurring
    assert server.backend.runs[run["run_id"]]["state"] == "RUNNING"


@pytest.mark.parametrize("word", ["pause", "resume", "remove"])
def test_an_unknown_schedule(server: KfpServer, word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert schedule("create", "nightly", "--every", "6h", *STORE) == 0
    assert schedule(word, "nihgtly") == 2
    error = capsys.readouterr().err
    assert "there is no schedule called nihgtly" in error
    assert "one of nightly" in error


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--cron", "0 3 * * *"), 'did you mean --cron "0 0 3 * * *"?'),
        (("--cron", "0 0 25 * * *"), "the hour of the cron expression is wrong"),
        (("--cron", "often"), "this is no cron expression"),
        (("--every", "soon"), "this is no interval"),
        (("--every", "10s"), "a minute or more"),
        ((), "a schedule needs a time"),
        (("--every", "1h", "--cron", "0 0 3 * * *"), "a schedule needs a time"),
        (("--every", "1h", "--param", "run=x"), "a name of its own"),
    ],
)
def test_wrong_times_are_told_before_anything_is_asked_of_the_server(
    server: KfpServer, arguments: tuple[str, ...], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert schedule("create", "x", *arguments, *STORE) == 2
    assert told in capsys.readouterr().err
    assert server.requests == []


GOOD = [
    "0 0 3 * * *",
    "0 */15 * * * *",
    "30 0 0 1 1 ?",
    "0 0 9-17 * * MON-FRI",
    "0 0 0 1,15 * *",
    "0 0 0 * jan-mar sun",
    "0 0 8-18/2 * * *",
]
BAD = [
    "0 60 * * * *",
    "0 0 24 * * *",
    "0 0 0 0 * *",
    "0 0 0 * 13 *",
    "0 0 0 * * 7",
    "0 0 0 * * funday",
    "a b c d e f",
    "0 0 */0 * * *",
    "",
]


@pytest.mark.parametrize("text", GOOD)
def test_what_we_take_the_server_takes(text: str) -> None:
    assert check_cron(text) == text
    servers_check(text)


@pytest.mark.parametrize("text", BAD)
def test_what_the_server_refuses_we_refuse_first(text: str) -> None:
    with pytest.raises(RefusedError):
        servers_check(text)
    with pytest.raises(InputError):
        check_cron(text)


def test_backward_ranges_are_refused() -> None:
    with pytest.raises(InputError, match="hour"):
        check_cron("0 0 17-9 * * *")


@pytest.mark.parametrize(("text", "seconds"), [("30m", 1800), ("6h", 21600), ("1d", 86400), ("90s", 90)])
def test_intervals(text: str, seconds: int) -> None:
    assert parse_when(None, text) == When(interval_s=seconds)
