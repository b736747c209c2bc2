"""How the workers of one machine find each other: over loopback, on ports that the system picks, without ssh."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

from components.train.collective import Engine

HOST = "127.0.0.1"
INTERFACE = "lo"
PATIENCE_S = 300
"""A busy machine may start one worker long after the other."""


@contextmanager
def rendezvous(engine: Engine, world_size: int, scratch: Path) -> Iterator[list[dict[str, str]]]:
    """The environment of each rank; what it names lives as long as the block."""
    if engine == "horovod":
        with _horovod_server(world_size) as port:
            yield [_horovod_environment(rank, world_size, port) for rank in range(world_size)]
        return
    common = {
        "CONVEYOR_WORLD_SIZE": str(world_size),
        # A file instead of a port: nobody else can take it between choosing and opening.
        "CONVEYOR_INIT_METHOD": (scratch.resolve() / "rendezvous").as_uri(),
        "GLOO_SOCKET_IFNAME": INTERFACE,
        "NCCL_SOCKET_IFNAME": INTERFACE,
    }
    yield [common | {"CONVEYOR_RANK": str(rank)} for rank in range(world_size)]


@contextmanager
def _horovod_server(world_size: int) -> Iterator[int]:
    """Horovod's rendezvous server, on loopback only (its own launcher listens on every address)."""
    from horovod.runner.common.util.hosts import get_host_assignments, parse_hosts
    from horovod.runner.http.http_server import RendezvousHandler, RendezvousHTTPServer

    server = RendezvousHTTPServer((HOST, 0), RendezvousHandler, 0)
    server.init(get_host_assignments(parse_hosts(f"{HOST}:{world_size}"), world_size))
    thread = Thread(target=server.serve_forever, name="rendezvous", daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _horovod_environment(rank: int, world_size: int, port: int) -> dict[str, str]:
    return {
        "HOROVOD_RANK": str(rank),
        "HOROVOD_SIZE": str(world_size),
        "HOROVOD_LOCAL_RANK": str(rank),
        "HOROVOD_LOCAL_SIZE": str(world_size),
        "HOROVOD_CROSS_RANK": "0",
        "HOROVOD_CROSS_SIZE": "1",
        "HOROVOD_HOSTNAME": HOST,
        "HOROVOD_CONTROLLER": "gloo",
        "HOROVOD_CPU_OPERATIONS": "gloo",
        "HOROVOD_GLOO_RENDEZVOUS_ADDR": HOST,
        "HOROVOD_GLOO_RENDEZVOUS_PORT": str(port),
        "HOROVOD_GLOO_IFACE": INTERFACE,
        "HOROVOD_GLOO_TIMEOUT_SECONDS": str(PATIENCE_S),
        # Fusing by timing would change the order of sums from three ranks on; our buckets are fused already.
        "HOROVOD_FUSION_THRESHOLD": "0",
        # Milliseconds that a request waits for company, of which there is none.
        "HOROVOD_CYCLE_TIME": "0.5",
    }
