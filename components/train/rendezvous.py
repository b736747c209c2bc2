"""How the workers of a training find each other: on this machine over loopback, across pods over their network.

The launcher serves Horovod's rendezvous, on a port that the system picks; no ssh, no fixed port.
"""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Thread

from components.train.collectives.base import Engine

HOST = "127.0.0.1"
INTERFACE = "lo"
PATIENCE_S = 300
"""A busy machine may start one worker long after the other. A collective that hangs for so long fails."""
SHARED = ("HOROVOD_", "CONVEYOR_RANK", "CONVEYOR_LOCAL_RANK", "CONVEYOR_WORLD_SIZE", "CONVEYOR_INIT_METHOD")
"""Beginnings of the variables that a launcher may give a worker on another machine."""


@dataclass(frozen=True, slots=True)
class Host:
    """A machine, or a pod, and the workers on it."""

    name: str
    workers: int


@contextmanager
def rendezvous(engine: Engine, world_size: int, scratch: Path) -> Iterator[list[dict[str, str]]]:
    """The environment of each rank on this machine; what it names lives as long as the block."""
    here = [Host(HOST, world_size)]
    if engine == "horovod":
        with horovod_rendezvous(here, HOST, {HOST}) as hosts:
            yield [environment | interface_variables(INTERFACE) for environment in hosts[0]]
        return
    # A file instead of a port: nobody else can take it between choosing and opening.
    method = (scratch.resolve() / "rendezvous").as_uri()
    hosts = ddp_environments(here, method)
    yield [environment | interface_variables(INTERFACE) for environment in hosts[0]]


@contextmanager
def horovod_rendezvous(
    hosts: Sequence[Host], address: str, guests: Collection[str]
) -> Iterator[list[list[dict[str, str]]]]:
    """The environments of the workers of each host, but for the network interface.

    Horovod's server listens on `address` only (its own launcher listens on every one), and answers to `guests` only.
    """
    from horovod.runner.common.util.hosts import HostInfo, get_host_assignments
    from horovod.runner.http.http_server import RendezvousHandler, RendezvousHTTPServer

    class Server(RendezvousHTTPServer):  # type: ignore[misc]
        def verify_request(self, _request: object, client_address: tuple[str, int]) -> bool:
            return client_address[0] in guests

    world_size = sum(host.workers for host in hosts)
    slots = get_host_assignments([HostInfo(host.name, host.workers) for host in hosts], world_size)
    server = Server((address, 0), RendezvousHandler, 0)
    server.init(slots)
    thread = Thread(target=server.serve_forever, name="rendezvous", daemon=True)
    thread.start()
    try:
        port = server.server_address[1]
        yield [
            [
                {
                    "HOROVOD_RANK": str(slot.rank),
                    "HOROVOD_SIZE": str(slot.size),
                    "HOROVOD_LOCAL_RANK": str(slot.local_rank),
                    "HOROVOD_LOCAL_SIZE": str(slot.local_size),
                    "HOROVOD_CROSS_RANK": str(slot.cross_rank),
                    "HOROVOD_CROSS_SIZE": str(slot.cross_size),
                    "HOROVOD_HOSTNAME": slot.hostname,
                    "HOROVOD_CONTROLLER": "gloo",
                    "HOROVOD_CPU_OPERATIONS": "gloo",
                    "HOROVOD_GLOO_RENDEZVOUS_ADDR": address,
                    "HOROVOD_GLOO_RENDEZVOUS_PORT": str(port),
                    "HOROVOD_GLOO_TIMEOUT_SECONDS": str(PATIENCE_S),
                    # Fusing by timing would change the order of sums from three ranks on; our buckets are fused
                    # already. It also keeps Horovod's own CUDA kernels (fused copies; scaling, for hvd.Average) out
                    # of the way: 0.28 does not look whether their launch failed, so that on a GPU they are not
                    # compiled for (HOROVOD_BUILD_CUDA_CC_LIST) sums would be wrong without an error.
                    "HOROVOD_FUSION_THRESHOLD": "0",
                    # Milliseconds that a request waits for company, of which there is none.
                    "HOROVOD_CYCLE_TIME": "0.5",
                }
                for slot in slots
                if slot.hostname == host.name
            ]
            for host in hosts
        ]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def ddp_environments(hosts: Sequence[Host], method: str) -> list[list[dict[str, str]]]:
    """The environments of the workers of each host, but for the network interface."""
    world_size = sum(host.workers for host in hosts)
    environments, rank = [], 0
    for host in hosts:
        environments.append(
            [
                {
                    "CONVEYOR_RANK": str(rank + local_rank),
                    "CONVEYOR_LOCAL_RANK": str(local_rank),
                    "CONVEYOR_WORLD_SIZE": str(world_size),
                    "CONVEYOR_INIT_METHOD": method,
                }
                for local_rank in range(host.workers)
            ]
        )
        rank += host.workers
    return environments


def interface_variables(interface: str) -> dict[str, str]:
    """What makes Horovod, Gloo and NCCL use one network interface."""
    names = ("HOROVOD_GLOO_IFACE", "GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")
    return dict.fromkeys(names, interface)
