"""The parts of training across pods that need no other pod."""

import json
import socket
from pathlib import Path
from typing import Any

import pytest

from components.common.blobs import Blobs
from components.common.errors import InputError, StepError
from components.common.store import open_store
from components.train.config import TrainConfig
from components.train.pods.coordinator import Coordinator
from components.train.pods.environment import SILENCE_S, num_pods, this_pod
from components.train.pods.errors import TrainingFailedError
from components.train.pods.generations import begin_generation, document, end_generation, forget_generations
from components.train.pods.lead import FAREWELL_S, WAKE_S
from components.train.pods.member import interface_of
from components.train.pods.mpi import read_hosts, ssh_command
from components.train.pods.wire import MAX_FIRST_LINE, Connection, proof, proves
from components.train.resolve import Machine, choose_placement
from support.synthetic_shards import striped_shards

POD = {
    "CONVEYOR_TRAIN_PODS": "3",
    "JOB_COMPLETION_INDEX": "1",
    "CONVEYOR_TRAIN_COORDINATOR": "train-0.train:29400",
}
MACHINE: dict[str, Any] = {"cores": 4, "gpus": 0, "horovod": True, "dali": True}


def test_one_pod_alone_is_no_group() -> None:
    assert this_pod({}) is None
    assert this_pod({"CONVEYOR_TRAIN_PODS": "1", "JOB_COMPLETION_INDEX": "0"}) is None
    assert num_pods({}) == (1, 1)


def test_a_pod_knows_its_place() -> None:
    pod = this_pod(POD)
    assert pod is not None
    assert (pod.count, pod.fewest, pod.index, pod.host, pod.port) == (3, 3, 1, "train-0.train", 29400)
    assert not pod.elastic
    assert not pod.leads
    first = this_pod({**POD, "JOB_COMPLETION_INDEX": "0", "CONVEYOR_TRAIN_MIN_PODS": "2"})
    assert first is not None
    assert first.elastic
    assert first.leads
    launcher = this_pod({"CONVEYOR_TRAIN_PODS": "3", "CONVEYOR_TRAIN_HOSTS": "mpi"})
    assert launcher is not None
    assert launcher.leads
    assert launcher.index is None
    agent = this_pod({**POD, "JOB_COMPLETION_INDEX": "0", "CONVEYOR_TRAIN_HOSTS": "member"})
    assert agent is not None
    assert not agent.leads


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"CONVEYOR_TRAIN_PODS": "many"}, "CONVEYOR_TRAIN_PODS"),
        ({"CONVEYOR_TRAIN_MIN_PODS": "4"}, "CONVEYOR_TRAIN_MIN_PODS"),
        ({"JOB_COMPLETION_INDEX": "3"}, "JOB_COMPLETION_INDEX"),
        ({"CONVEYOR_TRAIN_COORDINATOR": "train-0.train"}, "CONVEYOR_TRAIN_COORDINATOR"),
        ({"CONVEYOR_TRAIN_COORDINATOR": "train-0.train:http"}, "CONVEYOR_TRAIN_COORDINATOR"),
        ({"CONVEYOR_TRAIN_SILENCE_S": "0"}, "CONVEYOR_TRAIN_SILENCE_S"),
        ({"CONVEYOR_TRAIN_HOSTS": "slurm"}, "CONVEYOR_TRAIN_HOSTS=slurm"),
    ],
)
def test_what_is_amiss_in_the_environment_is_named(changes: dict[str, str], named: str) -> None:
    with pytest.raises(InputError) as caught:
        this_pod({**POD, **changes})
    assert named in str(caught.value)


def test_the_placement_is_that_of_as_many_local_workers(tmp_path: Path) -> None:
    shards = striped_shards(Blobs(open_store(str(tmp_path))))
    local = choose_placement(TrainConfig(workers=3, threads=1), shards, Machine(**MACHINE))
    across = choose_placement(TrainConfig(threads=1), shards, Machine(**MACHINE, pods=3, min_pods=3))
    assert across == local
    two_each = choose_placement(TrainConfig(workers=6), shards, Machine(**MACHINE, pods=3, min_pods=2))
    assert (two_each.world_size, two_each.min_world_size, two_each.engine) == (6, 4, "horovod")
    gpus = choose_placement(
        TrainConfig(model="resnet18"), shards, Machine(**{**MACHINE, "gpus": 2}, pods=3, min_pods=3)
    )
    assert (gpus.world_size, gpus.threads) == (6, 2)
    with pytest.raises(InputError, match="dealt out evenly"):
        choose_placement(TrainConfig(workers=4), shards, Machine(**MACHINE, pods=3, min_pods=3))
    with pytest.raises(InputError, match="several pods"):
        choose_placement(TrainConfig(engine="inline"), shards, Machine(**MACHINE, pods=3, min_pods=3))


def test_survivors_of_a_silent_pod_are_told_in_half_a_minute() -> None:
    """What may pass, one after the other, between a pod's last sign of life and the exit of the others."""
    assert SILENCE_S + WAKE_S + FAREWELL_S < 30


def test_generations_count_those_that_come_no_further(tmp_path: Path) -> None:
    store, key = open_store(str(tmp_path / "store")), "0" * 64
    names = set()
    for number, step in enumerate((-1, -1, 5, 5, 9), 1):
        generation = begin_generation(store, key, step=step, max_restarts=1)
        assert generation.number == number
        names.add(generation.name)
        end_generation(store, key, f"reason {number}")
    assert len(names) == 5
    begin_generation(store, key, step=9, max_restarts=1)
    end_generation(store, key, "the last straw")
    with pytest.raises(TrainingFailedError) as caught:
        begin_generation(store, key, step=9, max_restarts=1)
    assert caught.value.exit_code == 76
    assert "2 generations that went on from step 9, 6 in all" in str(caught.value)
    assert "the last straw" in str(caught.value)
    # Whoever starts it once more wants it tried once more.
    assert begin_generation(store, key, step=9, max_restarts=1).number == 1
    store.put(document(key), b"{half")
    assert begin_generation(store, key, step=9, max_restarts=1).number == 1
    forget_generations(store, key)
    assert store.stat(document(key)) is None


def test_only_who_knows_the_token_proves_it() -> None:
    answer = proof("token", "challenge", "key", 1)
    assert proves(answer, "token", "challenge", "key", 1)
    assert not proves(answer, "token", "another challenge", "key", 1)
    assert not proves(answer, "token", "challenge", "key", 2)
    assert not proves(answer, "guessed", "challenge", "key", 1)
    assert not proves(None, "token", "challenge", "key", 1)


def test_a_coordinator_takes_no_nonsense() -> None:
    with Coordinator("127.0.0.1", 0, key="k", count=2, token="", silence_s=30) as coordinator:

        def connected() -> Connection:
            return Connection(socket.create_connection(("127.0.0.1", coordinator.port)), 30)

        for line in (b"GET / HTTP/1.1\r\n\r\n", b"x" * (MAX_FIRST_LINE + 10), b'{"kind": 3}\n', b"[]\n"):
            stranger = connected()
            assert stranger.receive() is not None
            stranger._socket.sendall(line)
            assert stranger.receive() is None
            stranger.close()
        guest = connected()
        greeting = guest.receive()
        assert greeting is not None
        answer = proof("", greeting["challenge"], "k", 1)
        guest.send("join", key="k", index=1, proof=answer, port=5)
        assert coordinator.events.get(timeout=30).member.index == 1
        guest.send("message", rank=1, fields={"kind": "info"})
        assert coordinator.events.get(timeout=30).message == {
            "kind": "message",
            "rank": 1,
            "fields": {"kind": "info"},
        }
        guest.close()
        assert coordinator.events.get(timeout=30).message is None


def test_interfaces_hosts_and_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert interface_of("127.0.0.7") == "lo"
    with pytest.raises(StepError, match="interface"):
        interface_of("203.0.113.9")
    hosts = tmp_path / "hostfile"
    hosts.write_text("# made by the operator\nt-worker-0.t.ns.svc slots=1\nt-worker-1.t.ns.svc:1\n\n")
    assert read_hosts(hosts) == ["t-worker-0.t.ns.svc", "t-worker-1.t.ns.svc"]
    with pytest.raises(InputError, match="hosts cannot be read"):
        read_hosts(tmp_path / "none")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a secret")
    monkeypatch.setenv("CONVEYOR_TRAIN_SSH", "ssh -F 'my config'")
    command = ssh_command("t-worker-0")
    assert command[:3] == ["ssh", "-F", "my config"]
    assert "a secret" not in json.dumps(command)
    assert command[-2] == "t-worker-0"


def test_a_machine_says_what_its_pods_have(monkeypatch: pytest.MonkeyPatch) -> None:
    from components.train.machine import this_machine

    values: dict[str, Any] = {"CONVEYOR_TRAIN_PODS": "3", "CONVEYOR_CORES": "7", "CONVEYOR_GPUS": "2"}
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    found = this_machine()
    assert (found.pods, found.min_pods, found.cores, found.gpus) == (3, 3, 7, 2)
