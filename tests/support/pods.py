"""Processes as the pods of one Indexed Job, each with the environment of its own, and a controller that restarts them."""

import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from components.common.refs import ShardsRef

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 180
FINAL = (2, 76)
"""Statuses that fail a Job, whose controller then starts nothing any more."""


@dataclass
class Pod:
    """One life of one pod."""

    index: int
    process: "subprocess.Popen[bytes]"
    log: Path
    output: Path


class JobOfPods:
    """`pods` trainings, each restarted when it ends with another status than 0, unless `restart` is off.

    Leaving the block kills all that is left.
    """

    def __init__(
        self,
        store: Path,
        shards: ShardsRef,
        settings: dict[str, Any],
        *,
        pods: int,
        variables: dict[str, str] | None = None,
        restart: bool = True,
    ) -> None:
        self.store, self._shards, self._settings, self._count = store, shards, settings, pods
        self._restart, self._variables = restart, variables or {}
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        self._folder = tempfile.TemporaryDirectory(prefix="pods-")
        self.pods: dict[int, Pod] = {}
        self.ended: list[Pod] = []
        """Every life that ended, in the order in which it was seen to."""
        self._lock, self._left = threading.RLock(), threading.Event()
        self._controller = threading.Thread(target=self._control, daemon=True)

    @property
    def statuses(self) -> list[int]:
        """Of all lives that ended; negative for a signal."""
        return [pod.process.returncode for pod in self.ended]

    def __enter__(self) -> Self:
        if self._restart:
            for index in range(self._count):
                self.start(index)
        self._controller.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._left.set()
        self._controller.join()
        for pod in self.pods.values():
            pod.process.kill()
            pod.process.wait()
        if error is not None:
            for index in range(self._count):
                sys.stderr.write(f"--- pod {index}\n{self.log(index)}\n")
        self._folder.cleanup()

    def start(
        self, index: int, *, variables: dict[str, str] | None = None, settings: dict[str, Any] | None = None
    ) -> None:
        """Another life of a pod."""
        with self._lock:
            life = sum(pod.index == index for pod in self.ended)
            log = Path(self._folder.name, f"{index}-{life:03d}.log")
            output = log.with_suffix(".out")
            with log.open("wb") as errors, output.open("wb") as results:
                process = subprocess.Popen(
                    [sys.executable, "-m", "support.train_driver", str(self.store)],
                    stdin=subprocess.PIPE,
                    stdout=results,
                    stderr=errors,
                    cwd=ROOT,
                    env={
                        **os.environ,
                        "PYTHONPATH": f"{ROOT / 'tests'}{os.pathsep}{ROOT}",
                        "CONVEYOR_TRAIN_PODS": str(self._count),
                        "CONVEYOR_TRAIN_COORDINATOR": f"127.0.0.1:{self._port}",
                        "CONVEYOR_TRAIN_ADDRESS": "127.0.0.1",
                        "JOB_COMPLETION_INDEX": str(index),
                        **self._variables,
                        **(variables or {}),
                    },
                )
            assert process.stdin is not None
            task = {"config": settings or self._settings, "shards": self._shards.to_value()}
            process.stdin.write(json.dumps(task).encode())
            process.stdin.close()
            self.pods[index] = Pod(index, process, log, output)

    def _control(self) -> None:
        while not self._left.wait(0.02):
            with self._lock:
                for index, pod in list(self.pods.items()):
                    if pod in self.ended or pod.process.poll() is None:
                        continue
                    self.ended.append(pod)
                    failed = any(each.process.returncode in FINAL for each in self.ended)
                    if pod.process.returncode and self._restart and not failed:
                        self.start(index)

    def kill(self, index: int) -> None:
        """As a node does that loses power: the pod's process at once, and its workers with it."""
        with self._lock:
            self.pods[index].process.kill()

    def kill_worker(self, index: int) -> None:
        """One rank's process, as the system does when memory runs out."""
        children = psutil.Process(self.pods[index].process.pid).children()
        [worker] = [child for child in children if "components.train.worker" in child.cmdline()]
        worker.kill()

    def newest_step(self) -> int:
        """Step of the newest checkpoint, -1 before the first."""
        return max((int(path.stem) for path in self.store.glob("checkpoints/*/*.json")), default=-1)

    def generation(self) -> int:
        """How many were begun."""
        for path in self.store.glob("generations/*.json"):
            return int(json.loads(path.read_bytes())["begun"])
        return 0

    def wait_for_step(self, step: int) -> None:
        self._wait(lambda: self.newest_step() >= step, f"step {step} did not come")

    def wait_for_generation(self, number: int) -> None:
        self._wait(lambda: self.generation() >= number, f"generation {number} did not begin")

    def wait_for_end(self, index: int) -> int:
        """The status of the pod's life that ends next, or that ended last where none runs."""
        pod = self.pods[index]
        self._wait(lambda: pod in self.ended, f"pod {index} did not end")
        return int(pod.process.returncode)

    def wait_for_status(self, index: int, status: int) -> None:
        """Until a life of the pod ends with that status."""
        self._wait(
            lambda: any(pod.index == index and pod.process.returncode == status for pod in self.ended),
            f"pod {index} did not end with {status}",
        )

    def results(self) -> list[dict[str, Any]]:
        """What each pod printed, once all have ended well."""
        self._wait(
            lambda: all(pod.process.poll() == 0 and pod in self.ended for pod in self.pods.values()),
            "the training did not end well",
        )
        return [json.loads(self.pods[index].output.read_bytes()) for index in range(self._count)]

    def wait_for_words(self, index: int, words: str) -> None:
        """Until the pod has said them."""
        self._wait(lambda: words in self.log(index), f"pod {index} did not say: {words}")

    def log(self, index: int) -> str:
        """All that the lives of a pod said."""
        return "".join(path.read_text() for path in sorted(Path(self._folder.name).glob(f"{index}-*.log")))

    def _wait(self, holds: Callable[[], bool], otherwise: str) -> None:
        until = time.monotonic() + PATIENCE_S
        while not holds():
            assert time.monotonic() < until, otherwise
            time.sleep(0.005)
