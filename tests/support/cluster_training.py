"""A training across pods of a real cluster, watched through its store, and ways to kill parts of it."""

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from components.cluster import jobs
from components.cluster.config import KubernetesConfig
from components.cluster.names import CONTAINER, KEY
from components.common.refs import ModelRef, parse_ref
from support.cluster_world import Object, World, wait_until
from support.small_pipeline import command, environment

# The Job controller waits before it replaces a pod: 10 s, then 20, on a busy machine longer.
RECOVERY_S = 400
BEGIN_S = 600
"""For the training's Job to be there: the command, its launcher's pod, and two steps before it."""
END_S = 600
STAYS = "conveyor.test/stays"
KILL_WORKER = """
import os, signal
killed = 0
for pid in filter(str.isdigit, os.listdir("/proc")):
    try:
        arguments = open(f"/proc/{pid}/cmdline").read().split("\\0")
    except OSError:
        continue
    if "components.train.worker" in arguments:
        os.kill(int(pid), signal.SIGKILL)
        killed += 1
print(killed)
"""


@dataclass(frozen=True)
class Trained:
    """What a finished training published."""

    key: str
    model: ModelRef


class Training:
    """`conveyor run --on kubernetes --until train`, under way. Nobody else trains in its store meanwhile."""

    def __init__(
        self,
        world: World,
        storage: Any,
        kind: Literal["jobs", "mpijobs"],
        run_id: str,
        process: "subprocess.Popen[str]",
        log: Path,
    ) -> None:
        self._world, self._storage, self._kind, self._process, self._log = world, storage, kind, process, log
        self._selector = f"conveyor/step=train,conveyor/run={run_id}"
        self._kept: list[str] = []

    @cached_property
    def job(self) -> Object:
        """As it was when it was first seen."""

        def there() -> list[Object]:
            found = self._world.get(self._kind, self._selector)
            return [job for job in found if KEY in job["metadata"].get("annotations", {})]

        found: list[Object] = self.until("the Job of the training", there, timeout_s=BEGIN_S)
        assert len(found) == 1, [job["metadata"]["name"] for job in found]
        return found[0]

    @cached_property
    def key(self) -> str:
        return str(self.job["metadata"]["annotations"][KEY])

    def survive(self, kill: Callable[[str], bool], selector: str) -> None:
        """Kill the pod, or what is in it, once its generation has come further; wait until the next one begins.

        `kill` returns whether there was anything to kill.
        """
        for _ in range(5):
            known, pod = self._generation()["begun"], self._pod(selector)
            while (number := self.progress()) != known:
                known, pod = number, self._pod(selector)  # a busy machine may end one of its own accord
            if kill(pod):  # nothing to kill: between two generations
                break
        else:
            raise AssertionError(f"nothing could be killed in {pod}")
        self.until("the next generation", lambda: self._generation()["begun"] > number)

    def progress(self) -> int:
        """Wait until the present generation has a checkpoint of its own, and return its number."""
        number: int = self.until("a checkpoint of its own", self._fruitful, every_s=0.05)
        return number

    def worlds(self) -> list[str]:
        """Which pods took part in each generation, as the training said: `0, 1`."""
        return re.findall(r"of the training begins pods=\[([\d, ]*)\]", self._log.read_text())

    def delete_pod(self, pod: str) -> bool:
        """As when its node is lost: no time to say good-bye."""
        self._world.kubectl("delete", "pod", pod, "--grace-period=0", "--force", "--wait=false")
        return True

    def delete_and_keep_its_place(self, pod: str) -> bool:
        """The same, and none of its name, as an MPIJob's is, can take its place before `give_places_free`."""
        self._kept.append(pod)
        self._finalize(pod, [STAYS])
        return self.delete_pod(pod)

    def give_places_free(self) -> None:
        while self._kept:
            self._finalize(self._kept.pop(), None)

    def _finalize(self, pod: str, names: list[str] | None) -> None:
        patch = {"metadata": {"finalizers": names}}
        given = ("--type=merge", "-p", json.dumps(patch))
        self._world.kubectl("patch", "pod", pod, *given, check=names is not None)

    def kill_worker(self, pod: str) -> bool:
        """One rank's process, as the system does when memory runs out; the pod stays."""
        killed = self._world.kubectl("exec", pod, "-c", CONTAINER, "--", "python", "-c", KILL_WORKER)
        assert killed.strip() in {"0", "1"}, killed
        return killed.strip() == "1"

    def result(self, *, timeout_s: float = END_S) -> Trained:
        """Wait for the end, which must be a good one."""
        try:
            out, _ = self._process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"no end.\n{self._log.read_text()[-6000:]}\n{self._state()}") from None
        assert self._process.returncode == 0, self._log.read_text()[-6000:]
        return _trained(out)

    def until(
        self, what: str, holds: Callable[[], Any], *, timeout_s: float = RECOVERY_S, every_s: float = 0.3
    ) -> Any:
        """Wait, but not for a training that is over."""

        def ask() -> Any:
            found = holds()
            over = self._process.poll() is not None
            assert found or not over, f"{what}: it is over.\n{self._log.read_text()[-6000:]}"
            return found

        try:
            return wait_until(what, ask, timeout_s=timeout_s, every_s=every_s)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self._log.read_text()[-6000:]}\n{self._state()}") from None

    def _state(self) -> str:
        """What the cluster knows of it, for the message of a failure."""
        get = ("get", "pods,jobs", "-l", self._selector, "--ignore-not-found")
        return (
            self._world.kubectl(*get, check=False) + self._world.kubectl("get", "events", check=False)[-3000:]
        )

    def _pod(self, selector: str) -> str:
        """Name of the running pod that has these labels."""

        def running() -> list[Object]:
            pods = self._world.get("pods", f"{self._selector},{selector}")
            return [
                pod
                for pod in pods
                if pod["status"]["phase"] == "Running" and "deletionTimestamp" not in pod["metadata"]
            ]

        (pod,) = self.until(f"a pod with {selector}", running)
        return str(pod["metadata"]["name"])

    def _fruitful(self) -> int:
        """Number of the present generation once there is a checkpoint of its own; 0 before."""
        known = self._generation()
        steps = [int(Path(name).stem) for name in self._names("checkpoints")]
        return int(known["begun"]) if max(steps, default=-1) > known["step"] else 0

    def _generation(self) -> dict[str, Any]:
        for name in self._names("generations"):
            body: dict[str, Any] = json.load(self._storage.get_object(Bucket="store", Key=name)["Body"])
            return body
        return {"begun": 0, "step": -1}

    def _names(self, folder: str) -> list[str]:
        listed = self._storage.list_objects_v2(Bucket="store", Prefix=f"tests/{folder}/{self.key}")
        return [entry["Key"] for entry in listed.get("Contents", [])]


@contextmanager
def training(world: World, config: Path, run_id: str, kind: Literal["jobs", "mpijobs"]) -> Iterator[Training]:
    """Start the run; a run that is left before its end goes with its namespace."""
    log = config.with_suffix(".log")
    world.logs.append(log)
    arguments: list[str | Path] = [
        "run",
        "--on",
        "kubernetes",
        "-f",
        config,
        "--run",
        run_id,
        "--until",
        "train",
        "--json",
    ]
    with (
        world.storage() as storage,
        log.open("w") as errors,
        subprocess.Popen(
            command(arguments),
            cwd=config.parent,
            env=environment({"CONVEYOR_LOG_FORMAT": "lines"}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as process,
    ):
        made = Training(world, storage, kind, run_id, process, log)
        try:
            yield made
        finally:
            process.kill()
            made.give_places_free()  # else nothing could remove the namespace


def train_in_one_pod(world: World, config: Path, name: str, *, timeout_s: float = BEGIN_S + END_S) -> Trained:
    """The same image and settings in one group of processes: a plain `conveyor run` in one pod."""
    # The cores count for the key; memory does not, and all workers share this pod's.
    settings = KubernetesConfig.model_validate(world.kubernetes(resources={"train": {"memory": "6Gi"}}))
    job = jobs.step_job(
        name,
        "train",
        name,
        settings.model_copy(update={"retries": 0}),
        config_map=name,
        command_args=["run", "-f", jobs.CONFIG, "--run", name, "--until", "train", "--json"],
    )
    world.apply(jobs.config_map(name, config.read_text(), settings), job)

    def ended() -> str | None:
        (found,) = [each for each in world.get("jobs") if each["metadata"]["name"] == name]
        conditions = found["status"].get("conditions", [])
        return next((c["type"] for c in conditions if c["type"] in ("Complete", "Failed")), None)

    how = wait_until(f"the Job {name}", ended, timeout_s=timeout_s, every_s=1)
    log = world.kubectl("logs", f"job/{name}")
    assert how == "Complete", log[-6000:]
    return _trained(next(line for line in log.splitlines() if '"steps"' in line and '"run"' in line))


def _trained(out: str) -> Trained:
    """From what `conveyor run --json` printed."""
    step = json.loads(out)["steps"]["train"]
    model = parse_ref(step["output"], where="train")
    assert isinstance(model, ModelRef)
    return Trained(step["key"], model)
