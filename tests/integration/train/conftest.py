"""Trainings in processes of their own, which tests watch and kill."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from components.common.refs import ShardsRef

ROOT = Path(__file__).resolve().parents[3]
PATIENCE_S = 300


@dataclass
class Training:
    """A running `support.train_driver`, leader of its own process group."""

    process: "subprocess.Popen[str]"
    store: Path

    def workers(self) -> dict[int, psutil.Process]:
        """Rank → worker process, of those that run."""
        found = {}
        for child in psutil.Process(self.process.pid).children():
            try:
                rank = child.environ().get("HOROVOD_RANK", child.environ().get("CONVEYOR_RANK"))
            except psutil.Error:
                continue
            if rank is not None:
                found[int(rank)] = child
        return found

    def newest_step(self) -> int:
        """Step of the newest checkpoint, -1 before the first."""
        return max((int(path.stem) for path in self.store.glob("checkpoints/*/*.json")), default=-1)

    def wait_for_step(self, step: int) -> None:
        """Until a checkpoint of that step or a later one is there; fails where the training ends before."""
        until = time.monotonic() + PATIENCE_S
        while self.newest_step() < step:
            assert self.process.poll() is None, "the training ended before the test could disturb it"
            assert time.monotonic() < until, "no checkpoint came"
            time.sleep(0.002)

    def kill_worker(self, rank: int) -> None:
        """Kill one rank, and wait until all of them have been started anew and have come further."""
        before = self.workers()
        before[rank].kill()
        until = time.monotonic() + PATIENCE_S
        while set(self.workers()) != set(before) or set(self.workers().values()) & set(before.values()):
            assert self.process.poll() is None, "the training ended instead of starting its workers anew"
            assert time.monotonic() < until, "no new workers came"
            time.sleep(0.01)
        self.wait_for_step(self.newest_step() + 5)

    def kill_group(self) -> None:
        os.killpg(self.process.pid, 9)
        self.process.wait()

    def result(self) -> dict[str, Any]:
        output, errors = self.process.communicate(timeout=PATIENCE_S)
        assert self.process.returncode == 0, errors
        value: dict[str, Any] = json.loads(output)
        value["log"] = errors
        return value


StartTraining = Callable[..., Training]


@pytest.fixture
def start_training() -> Iterator[StartTraining]:
    """`start(store, shards, **settings)`; whatever still runs at the end of the test is killed."""
    started: list[Training] = []

    def start(
        store: Path, shards: ShardsRef, *, variables: dict[str, str] | None = None, **settings: Any
    ) -> Training:
        process = subprocess.Popen(
            [sys.executable, "-m", "support.train_driver", str(store)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": f"{ROOT / 'tests'}{os.pathsep}{ROOT}", **(variables or {})},
        )
        assert process.stdin is not None
        process.stdin.write(json.dumps({"config": settings, "shards": shards.to_value()}))
        process.stdin.close()
        process.stdin = None
        started.append(Training(process, store))
        return started[-1]

    yield start
    for training in started:
        if training.process.poll() is None:
            training.kill_group()
        for stream in (training.process.stdout, training.process.stderr):
            if stream is not None:
                stream.close()
