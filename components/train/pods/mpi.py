"""An MPIJob's launcher: keep a member running on each host of the operator's list, over ssh.

`horovodrun` is not needed for that. It would put the environment, credentials included, on a command line, wait for
ever for a host that does not come, and know nothing of our generations. An agent gets what it needs through ssh's
stdin, and is then a member like any pod of an Indexed Job. A host counts as there when ssh reaches it: that is why the
operator's `discover_hosts.sh`, which lists pods that it saw running some time ago, is not asked.
"""

import json
import os
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import components
from components.common.errors import InputError
from components.common.machine import CORES, GPUS, num_cores, num_gpus
from components.common.step import StepContext
from components.train.config import TrainConfig
from components.train.pods.coordinator import Coordinator
from components.train.pods.environment import INDEX, PREFIX, Pods

HOSTFILE = "/etc/mpi/hostfile"
POLL_S = 1.0
RETRY_S = 5.0
END_S = 5.0
TELL_S = 15.0
KEEP = (
    "HOME",
    "TMPDIR",
    "PATH",
    "LANG",
    "LC_ALL",
    "LD_LIBRARY_PATH",
    "SSL_CERT_FILE",
    "NO_PROXY",
    "no_proxy",
)
KEEP_BEGINNINGS = ("AWS_", "CONVEYOR_", "HTTP", "http", "PYTHON", "NVIDIA_", "CUDA_", "NCCL_", "DALI_")


@dataclass
class _Agent:
    host: str
    process: "subprocess.Popen[bytes] | None" = None
    tried: float = 0.0
    told: float = field(default_factory=time.monotonic)
    last_words: str = ""

    @property
    def runs(self) -> bool:
        return self.process is not None and self.process.poll() is None


@contextmanager
def mpi_hosts(
    config: TrainConfig, inputs: dict[str, Any], context: StepContext, pods: Pods, coordinator: Coordinator
) -> Iterator[None]:
    """While the block lasts, there is an agent on each host that answers; one that ended is started anew."""
    read_hosts(_hostfile())
    ended = threading.Event()
    agents: dict[int, _Agent] = {}
    document = _document(config, inputs, context, pods, coordinator)

    def keep() -> None:
        while not ended.wait(POLL_S if agents else 0):
            with suppress(InputError, OSError):
                for index, host in enumerate(read_hosts(_hostfile())[: pods.count]):
                    if index not in agents or agents[index].host != host:
                        agents[index] = _Agent(host)
                    _keep_one(agents[index], index, document, context)

    thread = threading.Thread(target=keep, name="mpi-hosts", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(END_S)
        running = [agent.process for agent in agents.values() if agent.process is not None]
        # They end by themselves once their coordinator is gone; whose connection is dead is not waited for.
        coordinator.hang_up()
        until = time.monotonic() + END_S
        for process in running:
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, until - time.monotonic()))
            process.kill()
            process.wait()


def read_hosts(path: Path) -> list[str]:
    """Names of the operator's host file, in the order of the workers. Raises `InputError` where there is none."""
    try:
        lines = path.read_text().splitlines()
    except OSError as error:
        raise InputError(
            "the list of the MPIJob's hosts cannot be read",
            where=str(path),
            found=error.strerror,
            todo=f"set {PREFIX}HOSTS=mpi only in the launcher of an MPIJob",
        ) from error
    words = [line.partition("#")[0].split() for line in lines]
    return [found[0].partition(":")[0] for found in words if found]


def _hostfile() -> Path:
    return Path(os.environ.get(f"{PREFIX}HOSTFILE", HOSTFILE))


def _keep_one(agent: _Agent, index: int, document: dict[str, Any], context: StepContext) -> None:
    now = time.monotonic()
    if agent.runs or now - agent.tried < RETRY_S:
        return
    if agent.last_words and now - agent.told >= TELL_S:
        agent.told = now
        context.reporter.info(f"waiting for {agent.host}", pod=index, reason=agent.last_words)
    agent.tried = now
    agent.process = subprocess.Popen(
        ssh_command(agent.host), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    environment = {**document["environment"], INDEX: str(index)}
    threading.Thread(
        target=_talk,
        args=(agent, agent.process, json.dumps({**document, "environment": environment}).encode() + b"\n"),
        name=f"agent-{index}",
        daemon=True,
    ).start()


def ssh_command(host: str) -> list[str]:
    """The agent on `host`, with nothing secret on any command line.

    `CONVEYOR_TRAIN_SSH` takes the place of `ssh`, `CONVEYOR_TRAIN_SSH_PORT` that of the port in the client's own settings.
    """
    root = str(Path(components.__file__).resolve().parents[1])
    remote = ["env", f"PYTHONPATH={root}", sys.executable, "-P", "-m", "components.train.agent"]
    options = ["BatchMode=yes", "ConnectTimeout=5", "ServerAliveInterval=5", "ServerAliveCountMax=3"]
    port = os.environ.get(f"{PREFIX}SSH_PORT")
    return [
        *shlex.split(os.environ.get(f"{PREFIX}SSH", "ssh")),
        "-T",
        *(("-p", port) if port else ()),
        *(word for option in options for word in ("-o", option)),
        host,
        shlex.join(remote),
    ]


def _talk(agent: _Agent, process: "subprocess.Popen[bytes]", document: bytes) -> None:
    """Hand the agent its task, and pass on what it says: JSON lines with its rank, for the launcher's own log."""
    assert process.stdin is not None
    assert process.stderr is not None
    with suppress(OSError):
        process.stdin.write(document)
        process.stdin.flush()
        # Left open: the agent ends when it closes, which it does with this process, however that ends.
    with process.stderr as stream:
        for line in stream:
            text = line.decode(errors="replace").rstrip()
            if text.startswith("{"):
                sys.stderr.write(text + "\n")
                sys.stderr.flush()
            elif text:
                agent.last_words = text
    with suppress(OSError):
        process.stdin.close()


def _document(
    config: TrainConfig, inputs: dict[str, Any], context: StepContext, pods: Pods, coordinator: Coordinator
) -> dict[str, Any]:
    settings: Any = getattr(context.store, "settings", None)
    environment = {
        name: value for name, value in os.environ.items() if name in KEEP or name.startswith(KEEP_BEGINNINGS)
    }
    for name in ("HOSTS", "ADDRESS", "SSH", "SSH_PORT", "HOSTFILE"):
        environment.pop(PREFIX + name, None)
    environment |= {
        "CONVEYOR_LOG_FORMAT": "json",
        PREFIX + "HOSTS": "member",
        PREFIX + "COORDINATOR": f"{coordinator.address}:{coordinator.port}",
        # As the launcher sees them, so that all have one key.
        CORES: str(num_cores()),
        GPUS: str(num_gpus()),
        PREFIX + "PODS": str(pods.count),
        PREFIX + "MIN_PODS": str(pods.fewest),
    }
    return {
        "environment": environment,
        "config": config.model_dump(mode="json"),
        "inputs": inputs,
        "store_url": context.store.url,
        "store_settings": settings.model_dump(mode="json") if settings is not None else None,
    }
