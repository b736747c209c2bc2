"""What an MPIJob's launcher does, with agents on this machine: ssh itself is tried on the cluster (tests/cluster)."""

import json
import shutil
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from components.common.blobs import Blobs
from components.common.store import open_store
from components.train.machine import has_horovod
from support.synthetic_shards import striped_shards

pytestmark = pytest.mark.integration

SETTINGS: dict[str, Any] = {
    "model": "lenet",
    "epochs": 40,
    "batch_size": 16,
    "backend": "torchvision",
    "threads": 1,
    "engine": "horovod" if has_horovod() else "ddp",
    "checkpoint": {"interval_steps": 1},
    "tensorboard": False,
}


def agents(launcher: Any) -> list[psutil.Process]:
    """Members that run below the launcher, in the order of their hosts."""
    children = psutil.Process(launcher.process.pid).children(recursive=True)
    found = []
    for child in children:
        with suppress(psutil.Error):  # It has just ended.
            if "components.train.agent" in child.cmdline():
                found.append((child.environ().get("JOB_COMPLETION_INDEX", ""), child))
    return [child for _, child in sorted(found, key=lambda pair: pair[0])]


def test_dead_hosts_and_launchers_leave_no_trace(
    start_training: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "store"
    shards = striped_shards(Blobs(open_store(str(store))))
    shutil.copytree(store, tmp_path / "local")
    local = start_training(tmp_path / "local", shards, **SETTINGS, workers=2).result()

    down = tmp_path / "down"
    down.mkdir()
    hostfile = tmp_path / "hostfile"
    hostfile.write_text("train-worker-0.train slots=1\ntrain-worker-1.train slots=1\n")
    script = Path(sys.modules["support.synthetic_shards"].__file__ or "").with_name("local_ssh.py")
    variables = {
        "CONVEYOR_TRAIN_PODS": "2",
        "CONVEYOR_TRAIN_HOSTS": "mpi",
        "CONVEYOR_TRAIN_ADDRESS": "127.0.0.1",
        "CONVEYOR_TRAIN_HOSTFILE": str(hostfile),
        "CONVEYOR_TRAIN_SSH": f"{sys.executable} {script} {down}",
        "AWS_SECRET_ACCESS_KEY": "not for every eye",
    }

    def generation() -> int:
        documents = [json.loads(path.read_bytes()) for path in store.glob("generations/*.json")]
        return int(documents[0]["begun"]) if documents else 0

    launcher = start_training(store, shards, variables=variables, **SETTINGS)
    launcher.wait_for_step(3)
    for process in psutil.Process(launcher.process.pid).children(recursive=True):
        assert "not for every eye" not in " ".join(process.cmdline())
    # A host is gone, and answers again only after a while: the launcher outlives it.
    (down / "train-worker-1.train").touch()
    agents(launcher)[-1].kill()
    while len(agents(launcher)) != 1:
        assert launcher.process.poll() is None
    (down / "train-worker-1.train").unlink()
    while generation() < 2:
        assert launcher.process.poll() is None
    launcher.wait_for_step(launcher.newest_step() + 3)
    # The launcher dies like any other; its agents with it.
    left = agents(launcher)
    launcher.process.kill()
    _, alive = psutil.wait_procs(left, timeout=30)
    assert not alive
    result = start_training(store, shards, variables=variables, **SETTINGS).result()

    assert result["key"] == local["key"], "the code was edited while the test ran"
    assert result["output"] == local["output"]
    assert result["measured"]["resumed_from"]
