"""Killed at random moments, again and again, the pipeline ends with the same bytes as if nothing had happened."""

import logging
import os
import random
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from support.images import make_image_folder
from support.small_pipeline import SMALL, Ended, command, conveyor, environment, write_config

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(2400)]

MIN_KILLS = 25
MIN_PLACES = 4
"""Steps after which the dice must have hit; a machine that is faster than its calm run was needs more throws for that."""
SEED = 20261123
MARK = "CONVEYOR_CRASH_TEST"
LATENCY_MS = {"fp32": 4.0, "int8": 2.0, "fp32-pruned-50": 3.0, "int8-pruned-50": 1.0}

SETTINGS: dict[str, Any] = {
    **SMALL,
    "train": {
        **SMALL["train"],
        "workers": 2,
        "engine": "horovod",
        "epochs": 3,
        "checkpoint": {"interval_steps": 4},
    },
    # The choice by latency is the one thing that a clock decides: here it is made from recorded figures.
    "compress": {**SMALL["compress"], "measurements": "latency.json"},
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with 240 images, a config and the recorded latencies."""
    folder = tmp_path_factory.mktemp("crash")
    make_image_folder(folder / "images", classes=4, per_class=60, size=(16, 16), fmt="png")
    write_config(folder / "crash.yaml", SETTINGS)
    (folder / "latency.json").write_text(str(LATENCY_MS).replace("'", '"'))
    return folder


def arguments(store: str) -> list[str]:
    return ["run", "-f", "crash.yaml", "--source", "images", "--store", store, "--json", "--quiet"]


@pytest.fixture(scope="module")
def uninterrupted(place: Path) -> tuple[Any, float]:
    """What a run without interruption gives, and how many seconds it takes."""
    started = time.monotonic()
    ended = conveyor(*arguments("calm"), cwd=place, timeout_s=600)
    assert ended.status == 0, ended.err
    return ended.json(), time.monotonic() - started


def run_until(place: Path, store: str, seconds: float, mark: str) -> Ended | None:
    """Run, and SIGKILL the whole process group after `seconds`; what it gave where it ended before that, else None."""
    scratch = place / "scratch"
    scratch.mkdir(exist_ok=True)
    process = subprocess.Popen(
        command(arguments(store)),
        cwd=place,
        env=environment({MARK: mark, "TMPDIR": str(scratch)}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    try:
        out, err = process.communicate(timeout=seconds)
        return Ended(process.returncode, out, err)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return None


def wait_until_gone(mark: str, patience_s: float = 60) -> None:
    """Whatever ran outside the killed group must notice, and end by itself."""
    left = descendants(mark)
    _, alive = psutil.wait_procs(left, timeout=patience_s)
    try:
        assert not alive, f"left over: {[' '.join(p.cmdline()) for p in alive]}"
    finally:
        for process in alive:
            process.kill()


def descendants(mark: str) -> list[psutil.Process]:
    """Every process that inherited our mark."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def facts(result: Any) -> dict[str, Any]:
    """All that must not depend on the interruptions: every step's key and reference, to the last digest."""
    return {name: (step["key"], step["output"]) for name, step in result["steps"].items()}


@pytest.mark.slow
def test_killed_at_random_moments_the_results_are_the_same_to_the_bit(
    place: Path, uninterrupted: tuple[Any, float]
) -> None:
    calm, seconds = uninterrupted
    dice = random.Random(SEED)
    kills, rounds = 0, 0
    reached: list[str] = []
    while kills < MIN_KILLS or (len(set(reached)) < MIN_PLACES and kills < 3 * MIN_KILLS):
        store, rounds = f"storm-{rounds}", rounds + 1
        ended = None
        for attempt in range(60):
            mark = f"{store}-{attempt}"
            # Mostly early enough to hit the next step or two; late enough, now and then, for a round to end: also on a
            # machine that has become slower since its calm run.
            slower = 1 + attempt // 20
            ended = run_until(place, store, slower * dice.uniform(0.02, 0.75) * seconds, mark)
            wait_until_gone(mark)
            if ended is not None:
                break
            kills += 1
            reached.append(last_step(place / store))
        assert ended is not None, "the pipeline never ended, so a kill loses what was done before it"
        assert ended.status == 0, ended.err
        assert facts(ended.json()) == facts(calm)
        verified = conveyor("verify", "--store", store, cwd=place)
        assert verified.status == 0, verified.err
    logging.getLogger(__name__).info(
        "%d kills in %d rounds; uninterrupted %.1f s; last finished step at each kill: %s",
        kills,
        rounds,
        seconds,
        reached,
    )
    assert len(set(reached)) >= MIN_PLACES


def last_step(store: Path) -> str:
    """The newest step with a record: where about the kill fell."""
    records = sorted((store / "records").glob("*/*.json"), key=lambda path: path.stat().st_mtime)
    return records[-1].parent.name if records else "nothing"


def test_two_runs_at_once_give_one_result(place: Path, uninterrupted: tuple[Any, float]) -> None:
    calm, _ = uninterrupted
    twins = [
        subprocess.Popen(
            command([*arguments("shared"), "--run", f"twin-{number}"]),
            cwd=place,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
        )
        for number in range(2)
    ]
    ended = [(*twin.communicate(timeout=600), twin.returncode) for twin in twins]
    assert [status for _, _, status in ended] == [0, 0], ended
    results = [Ended(status, out, err).json() for out, err, status in ended]
    assert facts(results[0]) == facts(results[1]) == facts(calm)
    verified = conveyor("verify", "--store", "shared", cwd=place)
    assert verified.status == 0, verified.err
    assert len(list((place / "shared" / "records").glob("*/*.json"))) == len(calm["steps"])
