"""Retraining with real steps: nothing new ends early, new images start from the champion, a refusal is no failure."""

import json
import os
import shutil
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from components.common.store import open_store
from components.common.store.file import FileStore
from components.promote.registry import open_registry
from pipelines.attempts import read_retraining
from support.aged_store import age
from support.images import make_image_folder
from support.small_pipeline import SMALL, Ended, command, conveyor, environment, write_config

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

SCHEMA = json.loads((Path(__file__).parents[3] / "docs" / "run.schema.json").read_text())


class Place:
    """A folder with images, a config and a store."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.store = folder, folder / "store"

    def make(self, **settings: Any) -> "Place":
        """With nothing in its store yet."""
        make_image_folder(self.folder / "images", classes=3, per_class=24, size=(16, 16), fmt="png")
        self.configure(**settings)
        return self

    def configure(self, **settings: Any) -> None:
        # Named, so that a copy of the folder is the same data set.
        ingest = {"num_workers": 1, "dataset": "shapes"}
        write_config(self.folder / "small.yaml", {**SMALL, "ingest": ingest, **settings})

    def add_images(self, seed: int) -> None:
        more = make_image_folder(
            self.folder / f"more-{seed}", classes=3, per_class=6, size=(16, 16), fmt="png", seed=seed
        )
        for path in more.rglob("*.png"):
            shutil.copy(path, self.folder / "images" / path.parent.name / f"{seed}-{path.name}")

    def arguments(self, command_name: str, *more: str) -> list[str]:
        return [command_name, "-f", "small.yaml", "--source", "images", "--store", "store", *more]

    def retrain(self, *more: str, status: int = 0) -> Any:
        ended = conveyor(*self.arguments("retrain", "--json", *more), cwd=self.folder)
        return self.checked(ended, status)

    def checked(self, ended: Ended, status: int = 0) -> Any:
        assert ended.status == status, ended.err
        value = ended.json()
        jsonschema.validate(value, SCHEMA)
        return value

    def champion(self) -> int | None:
        return open_registry(open_store(str(self.store))).pointer().champion

    def runs(self) -> set[str]:
        return {path.name for path in (self.store / "runs").iterdir()}

    def attempt(self) -> Any:
        attempt = read_retraining(open_store(str(self.store)), "shapes")[0].attempt
        assert attempt is not None
        return attempt


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Place, Any]:
    """A place with its first champion, and what the retraining that made it told."""
    place = Place(tmp_path_factory.mktemp("trained")).make()
    return place, place.retrain()


@pytest.fixture
def place(trained: tuple[Place, Any], tmp_path: Path) -> Place:
    """A copy of it."""
    shutil.copytree(trained[0].folder, tmp_path, dirs_exist_ok=True)
    return Place(tmp_path)


def states(result: Any) -> dict[str, str]:
    return {name: step["state"] for name, step in result["steps"].items()}


def test_the_life_of_a_schedule(trained: tuple[Place, Any], place: Place) -> None:
    # Without a champion it was an ordinary run.
    first = trained[1]
    assert first["state"] == "succeeded"
    assert set(states(first).values()) == {"done"}
    assert first["retraining"]["outcome"] == "promoted"
    assert first["retraining"]["warm_start"] is None
    assert place.champion() == 1

    # Nothing new: an early end, no run left behind, and only the wall clock's change is no change.
    runs = place.runs()
    for path in (place.folder / "images").rglob("*.png"):
        path.touch()
    for _ in range(2):
        unchanged = place.retrain()
        assert (unchanged["state"], unchanged["run"]) == ("unchanged", first["run"])
        assert list(unchanged["steps"]) == ["ingest"]
        assert unchanged["retraining"]["last_attempt"]["outcome"] == "promoted"
        assert place.runs() == runs
    assert states(unchanged) == {"ingest": "reused"}

    # New images: training starts from the champion, and the gates decide.
    place.add_images(seed=5)
    second = place.retrain()
    assert states(second)["train"] == "done"
    assert second["retraining"]["warm_start"] == 1
    given = json.loads((place.store / "runs" / second["run"] / "train.inputs.json").read_text())
    assert given["given"]["warm_start"]["tree"] == first["steps"]["train"]["output"]["tree"]
    assert second["run"] != first["run"]
    start = first["steps"]["train"]["output"]["tree"]
    registry = open_registry(open_store(str(place.store)))
    version = registry.version(second["model"]["version"])
    assert (registry.version(1).lineage["warm_start"], version.lineage["warm_start"]) == (None, start)
    assert start in (registry.read_text(version.number, "MODEL_CARD.md") or "")
    assert "an earlier model" in Path(second["report"]).read_text()

    # What the gates refuse is an attempt too: it is not made again, and the schedule's Job does not fail.
    place.configure(promote={"min_accuracy": 1.0, "min_class_recall": 1.0, "max_size_bytes": 1})
    champion = place.champion()
    refused = place.retrain()
    assert (refused["state"], refused["promoted"]) == ("succeeded", False)
    assert refused["retraining"]["outcome"] == "refused"
    assert place.champion() == champion
    again = place.retrain()
    assert again["state"] == "unchanged"
    assert again["retraining"]["last_attempt"]["outcome"] == "refused"

    # Garbage collection leaves what the next comparison and the attempt's run need.
    age(FileStore(place.store))
    collected = conveyor(
        *("gc", "--store", "store", "--delete", "--keep-runs", "0", "--older-than", "1d"), cwd=place.folder
    )
    assert collected.status == 0, collected.err
    assert place.runs() == {refused["run"]}
    assert place.retrain()["state"] == "unchanged"
    verified = conveyor("verify", "--store", "store", cwd=place.folder)
    assert verified.status == 0, verified.out + verified.err


def test_only_what_is_better_takes_the_champions_place(tmp_path: Path) -> None:
    place = Place(tmp_path)
    make_image_folder(tmp_path / "images", classes=3, per_class=60, size=(16, 16), fmt="png")

    def retrain(**train: Any) -> tuple[int, Any]:
        """The champion's version, and the gate that compares with it."""
        # No gate but that one can refuse.
        promote = {**SMALL["promote"], "margin": 0, "max_class_drop": 1.0}
        compress = {**SMALL["compress"], "prune": {"ratios": []}}
        place.configure(train={**SMALL["train"], **train}, promote=promote, compress=compress)
        told = place.retrain()
        champion = place.champion()
        assert champion is not None
        assert told["promoted"] is (champion == told["model"]["version"])
        registry = open_registry(open_store(str(place.store)))
        decision = registry.decision(told["model"]["version"])
        assert decision is not None
        gates = {gate.name: gate for gate in decision.gates}
        assert {name for name, gate in gates.items() if not gate.passed} <= {"not_inferior"}
        return champion, gates.get("not_inferior")

    untrained = {"learning_rate": 1e-9, "epochs": 1}
    diverging = {"learning_rate": 2.0, "epochs": 1}
    assert retrain(**untrained) == (1, None)
    champion, gate = retrain(epochs=8)
    assert (champion, gate.passed) == (2, True)
    assert gate.numbers["lower_bound"] > 0
    champion, gate = retrain(**diverging)
    assert (champion, gate.passed) == (2, False)
    assert gate.numbers["difference"] < -0.3


def test_an_ordinary_run_counts_as_the_last_attempt(tmp_path: Path) -> None:
    place = Place(tmp_path).make()
    ran = place.checked(conveyor(*place.arguments("run", "--json"), cwd=place.folder))
    told = place.retrain()
    assert told["state"] == "unchanged"
    assert told["retraining"]["last_attempt"]["model_version"] == ran["model"]["version"]
    assert place.champion() == 1


def test_awaiting_approval_is_an_attempt_that_has_ended(tmp_path: Path) -> None:
    place = Place(tmp_path).make(promote={**SMALL["promote"], "approval": True})
    first = place.retrain()
    assert first["awaiting_approval"] is True
    assert first["retraining"]["outcome"] == "awaiting_approval"
    assert place.champion() is None
    assert place.retrain()["state"] == "unchanged"
    assert conveyor("models", "promote", "1", "--store", "store", cwd=place.folder).status == 0
    assert place.retrain()["state"] == "unchanged"
    place.add_images(seed=6)
    assert place.retrain()["retraining"]["warm_start"] == 1


@pytest.mark.parametrize("words", ["] train", "] promote"])
def test_killed_and_called_again_it_is_the_same_attempt(place: Place, words: str) -> None:
    place.add_images(seed=7)
    begun = kill_at(place, words)
    attempt = place.attempt()
    assert attempt.state == "running"
    result = place.retrain()
    assert (result["run"], result["retraining"]["warm_start"]) == (attempt.run, 1)
    assert place.attempt().start == attempt.start
    assert begun == attempt.run
    assert place.retrain()["state"] == "unchanged"


def test_killed_after_the_pointer_moved(place: Place) -> None:
    """The champion is the attempt's own model by then: that must not start another training."""
    place.add_images(seed=8)
    second = place.retrain()
    version = second["model"]["version"]
    # As after a kill between the move and the end of the attempt: the document still says running.
    path = place.store / "retraining" / "shapes.json"
    document = json.loads(path.read_text())
    document["attempt"] |= {"state": "running", "ended": None, "model_version": None, "records": {}}
    path.write_text(json.dumps(document, separators=(",", ":"), sort_keys=True))
    again = place.retrain()
    assert set(states(again).values()) == {"reused"}
    assert (again["model"]["version"], again["run"]) == (version, second["run"])
    assert place.attempt().state == second["retraining"]["outcome"]


def test_another_champion_meanwhile_is_the_new_start(place: Place) -> None:
    place.add_images(seed=9)
    kill_at(place, "] train")
    assert place.attempt().start.version == 1
    # A person promotes another model before the attempt goes on.
    other = place.checked(conveyor(*place.arguments("run", "--json"), cwd=place.folder))
    assert place.champion() == other["model"]["version"] == 2
    result = place.retrain()
    # That run did all of it from scratch, but the attempt had begun before: it goes on, from the new champion.
    assert result["retraining"]["warm_start"] == 2
    assert result["state"] == "succeeded"


def test_two_at_once_come_to_one_result(place: Place) -> None:
    place.add_images(seed=10)
    with ThreadPoolExecutor(2) as pool:
        both = list(
            pool.map(lambda _: conveyor(*place.arguments("retrain", "--json"), cwd=place.folder), range(2))
        )
    results = [place.checked(ended) for ended in both]
    assert {result["run"] for result in results} == {place.attempt().run}
    registry = open_registry(open_store(str(place.store)))
    assert registry.numbers() == [1, 2]
    assert place.attempt().model_version == 2
    assert place.retrain()["state"] == "unchanged"


def test_a_failing_source_fails_and_is_tried_again(place: Place) -> None:
    shutil.move(place.folder / "images", place.folder / "away")
    failed = place.retrain(status=2)
    assert (failed["state"], failed["retraining"]["outcome"]) == ("failed", "failed")
    shutil.move(place.folder / "away", place.folder / "images")
    assert place.retrain()["state"] == "unchanged"


def kill_at(place: Place, words: str) -> str:
    """Retrain, and kill it without warning where its progress says `words`."""
    process = subprocess.Popen(
        command(place.arguments("retrain")),
        cwd=place.folder,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if words in line:
            break
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    return str(place.attempt().run)
