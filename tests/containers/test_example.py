"""The whole example in a container that may write its store and /tmp and nothing else."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.containers import UID, Box, shared_folder
from support.small_digits import write_small_digits
from support.small_pipeline import SMALL, conveyor, write_config

pytestmark = [pytest.mark.containers, pytest.mark.timeout(900, func_only=True)]

STEPS = ["ingest", "preprocess", "train", "evaluate", "compress", "promote"]
SETTINGS = {
    **SMALL,
    "ingest": {"source": "/data", "dataset": "digits", "num_workers": 1},
    "train": {**SMALL["train"], "workers": 2, "tensorboard": True},
    "store": {"url": "/store"},
}


@pytest.fixture(scope="module")
def world(image: str, tmp_path_factory: pytest.TempPathFactory) -> Box:
    folder = tmp_path_factory.mktemp("world")
    folder.chmod(0o755)
    write_small_digits(folder / "data")
    (folder / "etc").mkdir()
    write_config(folder / "etc/config.yaml", SETTINGS)
    mounts = {"/data:ro": folder / "data", "/etc/conveyor:ro": folder / "etc"}
    return Box(image, {**mounts, "/store": shared_folder(folder / "store")})


@pytest.fixture(scope="module")
def first_run(world: Box) -> dict[str, Any]:
    ended = world.run("run", "-f", "/etc/conveyor/config.yaml", "--json", timeout_s=800)
    assert ended.status == 0, ended.err
    result: dict[str, Any] = ended.json()
    return result


def test_all_steps_work_and_horovod_trains(world: Box, first_run: dict[str, Any]) -> None:
    steps = first_run["steps"]
    assert {name: steps[name]["state"] for name in STEPS} == dict.fromkeys(STEPS, "done")
    key = str(steps["train"]["key"]).removeprefix("sha256:")
    record = json.loads((world.mounts["/store"] / f"records/train/{key}.json").read_text())
    assert "horovod" in json.dumps(record)
    assert first_run["promoted"] is True


def test_everything_in_the_store_is_the_user_s(world: Box, first_run: dict[str, Any]) -> None:
    store = world.mounts["/store"]
    assert {path.stat().st_uid for path in store.rglob("*")} == {UID}


def test_again_everything_is_reused(world: Box, first_run: dict[str, Any]) -> None:
    ended = world.run("run", "-f", "/etc/conveyor/config.yaml", "--json")
    assert ended.status == 0, ended.err
    assert {name: step["state"] for name, step in ended.json()["steps"].items()} == dict.fromkeys(
        STEPS, "reused"
    )


def test_the_host_comes_to_the_same_snapshot_and_shards(
    world: Box, first_run: dict[str, Any], tmp_path: Path
) -> None:
    settings = {
        **SETTINGS,
        "ingest": {**SETTINGS["ingest"], "source": str(world.mounts["/data:ro"])},
        "store": {"url": str(tmp_path / "store")},
    }
    config = write_config(tmp_path / "config.yaml", settings)
    ended = conveyor("run", "-f", config, "--until", "preprocess", "--json", cwd=tmp_path)
    assert ended.status == 0, ended.err
    here = ended.json()["steps"]
    for step in ("ingest", "preprocess"):
        assert here[step]["state"] == "done"
        assert here[step]["key"] == first_run["steps"][step]["key"]
        assert here[step]["output"] == first_run["steps"][step]["output"]


def test_a_store_of_the_container_is_the_host_s_store(
    world: Box, first_run: dict[str, Any], tmp_path: Path
) -> None:
    # Also the training's key, which holds torch's and DALI's builds: they are the lock's on both sides.
    import torch

    theirs = world.python("import torch; print(torch.__version__)").out.strip()
    if theirs != torch.__version__:
        pytest.skip(f"torch is {torch.__version__} here and {theirs} in the image")
    settings = {
        **SETTINGS,
        "ingest": {**SETTINGS["ingest"], "source": str(world.mounts["/data:ro"])},
        "store": {"url": str(world.mounts["/store"])},
    }
    config = write_config(tmp_path / "config.yaml", settings)
    ended = conveyor("run", "-f", config, "--until", "evaluate", "--json", cwd=tmp_path)
    assert ended.status == 0, ended.err
    states = {name: step["state"] for name, step in ended.json()["steps"].items()}
    assert states == dict.fromkeys(STEPS[:4], "reused")


def test_a_misspelt_setting_is_told_and_ends_with_2(world: Box, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({**SETTINGS, "train": {"epoch": 3}}))
    wrong = Box(world.image, {**world.mounts, "/etc/conveyor:ro": tmp_path})
    ended = wrong.run("run", "-f", "/etc/conveyor/config.yaml")
    assert ended.status == 2
    assert ended.out == ""
    assert "epochs" in ended.err  # the nearest valid name
    assert "Traceback" not in ended.err


def test_a_missing_source_is_told_and_ends_with_2(image: str, world: Box) -> None:
    mounts = {place: folder for place, folder in world.mounts.items() if not place.startswith("/data")}
    ended = Box(image, mounts).run("run", "-f", "/etc/conveyor/config.yaml")
    assert ended.status == 2
    assert "/data" in ended.err
    assert "Traceback" not in ended.err
