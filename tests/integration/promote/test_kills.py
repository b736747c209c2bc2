"""Real processes, killed with SIGKILL before each single write of a promotion, and racing each other."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from components.common.step import Outcome

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[3]
MAX_WRITES = 40

# Dies before its n-th write to the store (0: never), by the signal that nothing can catch.
PROGRAM = """
import json, os, signal, sys
sys.path[:0] = sys.argv[1:3]
from components.common.progress import QuietReporter
from components.common.refs import parse_ref
from components.common.step import execute
from components.common.store import open_store
from components.promote import run as step
from components.promote.config import PromoteConfig
given = json.loads(sys.stdin.readline())
store, left = open_store(given["store"]), given["die_at"]

def dying(method):
    def write(*arguments, **options):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return method(*arguments, **options)
    return write

for name in ("put", "create", "swap"):
    setattr(store, name, dying(getattr(store, name)))
inputs = step.Inputs(**{name: parse_ref(value, where=name) for name, value in given["inputs"].items()})
config = PromoteConfig.model_validate_json(json.dumps(given["config"]))
print("ready", flush=True)
sys.stdin.readline()
outcome = execute(step, config, inputs, store, QuietReporter())
print(json.dumps([outcome.key, outcome.output.to_value()]), flush=True)
"""


def start(case: Any, name: str, die_at: int = 0) -> subprocess.Popen[str]:
    """A process that waits for `go`."""
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", PROGRAM, str(ROOT), str(ROOT / "tests")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    inputs = {field: ref.to_value() for field, ref in case.inputs(name)}
    config = {"max_latency_ratio": None, "max_size_ratio": None}
    given = {"store": case.store.url, "die_at": die_at, "inputs": inputs, "config": config}
    assert process.stdin is not None
    process.stdin.write(json.dumps(given) + "\n")
    process.stdin.flush()
    return process


def wait_ready(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n", process.communicate()[1]


def go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


def run(case: Any, name: str, die_at: int = 0) -> tuple[int, list[Any] | None]:
    process = start(case, name, die_at)
    wait_ready(process)
    go(process)
    out, err = process.communicate()
    assert process.returncode in (0, -signal.SIGKILL), err
    return process.returncode, json.loads(out) if out else None


def check(case: Any, expected: Outcome) -> None:
    """One version for the challenger, one move to it, and the record that an uninterrupted promotion has."""
    document = case.registry.pointer().document
    assert [(m.before, m.after, m.action) for m in document.moves] == [
        (None, 1, "promote"),
        (1, 2, "promote"),
    ]
    assert case.registry.numbers() == [1, 2]
    version = case.registry.version(2)
    assert case.registry.read_model(version)
    assert case.registry.read_text(2, "MODEL_CARD.md")
    again = case.promote("int8")
    assert (again.state, again.key) == ("reused", expected.key)
    assert again.output == expected.output


@pytest.fixture
def uninterrupted(case: Any, template: Any, tmp_path: Path) -> Outcome:
    """What the promotion of `int8` over `fp32` comes to on a store where nothing is killed."""
    import shutil

    from components.common.store import open_store

    shutil.copytree(case.store.url.removeprefix("file://"), tmp_path / "calm")
    calm = template.on(open_store(str(tmp_path / "calm")))
    calm.promote("fp32")
    outcome: Outcome = calm.promote("int8")
    return outcome


def test_killed_before_every_single_write_it_ends_as_if_it_had_not_been(
    case: Any, uninterrupted: Outcome
) -> None:
    """One store, killed one write later each time: every state that a kill can leave is gone on from."""
    case.promote("fp32")
    for die_at in range(1, MAX_WRITES):
        status, result = run(case, "int8", die_at)
        if status == 0:
            break
        assert result is None
        # Whatever moment it was: the pointer names a whole version.
        champion = case.registry.pointer().champion
        assert champion in (1, 2)
        assert case.registry.is_complete(champion)
    assert die_at > 3, "the kills came too late to mean anything"
    check(case, uninterrupted)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_killed_at_random_moments_on_a_fresh_store_each_time(
    case: Any, template: Any, uninterrupted: Outcome, tmp_path: Path
) -> None:
    import shutil

    from components.common.store import open_store

    case.promote("fp32")
    started = time.monotonic()
    source = case.store.url.removeprefix("file://")
    shutil.copytree(source, tmp_path / "timing")
    run(template.on(open_store(str(tmp_path / "timing"))), "int8")
    seconds = time.monotonic() - started
    generator = random.Random(5)
    for number in range(15):
        shutil.copytree(source, tmp_path / f"store-{number}")
        each = template.on(open_store(str(tmp_path / f"store-{number}")))
        process = start(each, "int8")
        wait_ready(process)
        go(process)
        try:
            process.wait(generator.uniform(0, seconds))
        except subprocess.TimeoutExpired:
            process.kill()
        process.communicate()
        each.promote("int8")
        check(each, uninterrupted)


def test_the_same_challenger_twice_at_once_is_one_version(case: Any) -> None:
    both = [start(case, "int8") for _ in range(2)]
    for process in both:
        wait_ready(process)
    for process in both:
        go(process)
    results = [json.loads(process.communicate()[0]) for process in both]
    assert results[0] == results[1]
    assert case.registry.numbers() == [1]
    assert len(case.registry.pointer().document.moves) == 1


def test_two_challengers_at_once_are_both_decided_one_after_the_other(case: Any) -> None:
    both = {name: start(case, name) for name in ("int8", "fp32")}
    for process in both.values():
        wait_ready(process)
    for process in both.values():
        go(process)
    results = {name: json.loads(process.communicate()[0])[1] for name, process in both.items()}
    assert {ref["model_version"] for ref in results.values()} == {1, 2} == set(case.registry.numbers())
    assert all(ref["promoted"] for ref in results.values())
    moves = case.registry.pointer().document.moves
    assert [move.before for move in moves] == [None, moves[0].after]
    for ref in results.values():
        (own,) = [move for move in moves if move.after == ref["model_version"]]
        assert own.before == ref["champion_before"]
