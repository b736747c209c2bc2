"""What the environment says about the pods that train together (components/train/README.md lists the variables)."""

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from components.common.errors import InputError, StepError

PREFIX = "CONVEYOR_TRAIN_"
INDEX = "JOB_COMPLETION_INDEX"
"""Set by Kubernetes in the pods of an Indexed Job."""
PORT = 29400
START_TIMEOUT_S = 900.0
"""A Job controller may take 10 minutes to replace a pod."""
SILENCE_S = 15.0
SETTLE_S = 10.0
GROW_AFTER_S = 60.0
MOST = 1024
_HOSTS: dict[str, Literal["", "mpi", "member"]] = {"": "", "mpi": "mpi", "member": "member"}


@dataclass(frozen=True, slots=True)
class Pods:
    """The group, and this pod's place in it."""

    count: int
    """Pods that train together, at most."""
    fewest: int
    """Elastic where it is smaller than `count`: so many go on without the others."""
    index: int | None
    """This pod's, from 0; None in a launcher that does not train."""
    host: str
    """Where the coordinator is."""
    port: int
    address: str
    """This pod's own; empty to look it up."""
    interface: str
    """Of the network for the collectives; empty to look it up."""
    token: str
    hosts: Literal["", "mpi", "member"]
    """`mpi`: a launcher that starts members on hosts; `member`: one of those. Else pod 0 leads."""
    start_timeout_s: float
    silence_s: float
    settle_s: float
    """Elastic: how long the others are waited for once there are enough."""
    grow_after_s: float
    """Elastic: a generation runs so long before it ends to take in who came later."""

    @property
    def elastic(self) -> bool:
        return self.fewest < self.count

    @property
    def leads(self) -> bool:
        """Whether the coordinator is in this pod."""
        return self.hosts == "mpi" or (self.index == 0 and not self.hosts)

    def own_address(self) -> str:
        """IPv4 address by which the other pods reach this one."""
        if self.address:
            return self.address
        try:
            return socket.gethostbyname(socket.gethostname())
        except OSError as error:
            raise StepError(
                "this pod's own address cannot be found",
                where=socket.gethostname(),
                found=str(error),
                todo=f"set {PREFIX}ADDRESS (status.podIP)",
            ) from error


def num_pods(environment: Mapping[str, str] = os.environ) -> tuple[int, int]:
    """How many pods train together, and the fewest that go on; (1, 1) outside such a group. Raises `InputError`."""
    count = _whole("PODS", environment, 1)
    fewest = _whole("MIN_PODS", environment, count)
    if fewest > count:
        raise InputError(
            "the least number of pods is larger than the number of pods",
            where=f"the environment variable {PREFIX}MIN_PODS",
            expected=f"1 to {count}",
            found=str(fewest),
        )
    return count, fewest


def this_pod(environment: Mapping[str, str] = os.environ) -> Pods | None:
    """The group that this process belongs to; None where it trains alone. Raises `InputError` for what is amiss."""
    count, fewest = num_pods(environment)
    if count == 1:
        return None
    hosts = environment.get(f"{PREFIX}HOSTS", "")
    index = environment.get(INDEX)
    if hosts not in _HOSTS or (hosts != "mpi" and index is None):
        raise InputError(
            "this pod does not know its place among the training pods",
            where=f"the environment, with {PREFIX}PODS={count}",
            expected=f"{INDEX} from 0 to {count - 1} (an Indexed Job sets it), or {PREFIX}HOSTS=mpi",
            found=f"{PREFIX}HOSTS={hosts}" if hosts else None,
        )
    own_index = None if hosts == "mpi" or index is None else _number(INDEX, index, 0, count - 1)
    place = environment.get(f"{PREFIX}COORDINATOR", "")
    host, _, port = place.rpartition(":")
    if hosts != "mpi" and not host:
        raise InputError(
            "this pod does not know where pod 0 is",
            where=f"the environment variable {PREFIX}COORDINATOR",
            expected="host:port",
            found=repr(place),
        )
    return Pods(
        count=count,
        fewest=fewest,
        index=own_index,
        host=host,
        port=_number(f"{PREFIX}COORDINATOR", port, 0, 65535) if port else PORT,
        address=environment.get(f"{PREFIX}ADDRESS", ""),
        interface=environment.get(f"{PREFIX}INTERFACE", ""),
        token=environment.get(f"{PREFIX}TOKEN", ""),
        hosts=_HOSTS[hosts],
        start_timeout_s=_seconds("START_TIMEOUT_S", environment, START_TIMEOUT_S),
        silence_s=_seconds("SILENCE_S", environment, SILENCE_S),
        settle_s=_seconds("SETTLE_S", environment, SETTLE_S),
        grow_after_s=_seconds("GROW_AFTER_S", environment, GROW_AFTER_S),
    )


def _whole(name: str, environment: Mapping[str, str], default: int) -> int:
    text = environment.get(PREFIX + name)
    return _number(PREFIX + name, text, 1, MOST) if text else default


def _seconds(name: str, environment: Mapping[str, str], default: float) -> float:
    text = environment.get(PREFIX + name)
    return float(_number(PREFIX + name, text, 1, 86400)) if text else default


def _number(name: str, text: str, least: int, most: int) -> int:
    try:
        value = int(text)
    except ValueError:
        value = least - 1
    if not least <= value <= most:
        raise InputError(
            "an environment variable is out of range",
            where=name,
            expected=f"a whole number from {least} to {most}",
            found=repr(text),
        )
    return value
