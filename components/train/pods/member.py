"""What each pod does: join the coordinator, run its workers for one generation, end when it is told or left alone."""

import json
import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from components.common.errors import StepError
from components.common.refs import ModelRef
from components.common.step import StepContext
from components.train.job import Job
from components.train.monitor import Monitor
from components.train.pods.environment import Pods
from components.train.pods.errors import GenerationOverError
from components.train.pods.wire import ALIVE, BEATS, Connection, proof
from components.train.processes import Worker, died_first, started
from components.train.rendezvous import SHARED, interface_variables

LEAD = -1
"""In the queue of messages: what the coordinator says, beside what the ranks say."""
TELL_S = 10.0
RETRY_S = 1.0
CONNECT_S = 5.0
FINISH_S = 10.0


@dataclass
class Member:
    """The part of this pod in the training."""

    job: Job
    context: StepContext
    monitor: Monitor
    pods: Pods
    published: Callable[[], ModelRef | None]
    """The result, once the record stands."""
    stop: threading.Event = field(default_factory=threading.Event)
    """Set by the leading pod, whose own member ends with it."""

    def take_part(self) -> ModelRef:
        """Train until the coordinator says that the training is done, and return the model.

        Raises `GenerationOverError` when another pod is gone, `StepError` when the coordinator does not come.
        """
        while True:
            connection = self._join()
            if isinstance(connection, ModelRef):
                return connection
            with closing(connection), _beating(connection, self.pods.silence_s):
                model = self._serve(connection)
            if model is not None:
                return model

    def _join(self) -> Connection | ModelRef:
        """Patient: while pod 0 is being started anew, there is no such name, or nobody answers there."""
        pods, started_at = self.pods, time.monotonic()
        told = started_at
        while True:
            try:
                return self._introduce(
                    Connection(socket.create_connection((pods.host, pods.port), CONNECT_S), pods.silence_s)
                )
            except OSError as error:
                reason = error.strerror or str(error)
            now = time.monotonic()
            if self.stop.is_set():
                raise GenerationOverError("this pod stops")
            if now - told >= TELL_S:
                told = now
                if (model := self.published()) is not None:
                    return model
                self.context.reporter.info(
                    "waiting for pod 0", at=f"{pods.host}:{pods.port}", reason=reason, pod=pods.index
                )
            if now - started_at >= pods.start_timeout_s:
                raise StepError(
                    "pod 0 of the training cannot be reached",
                    where=f"{pods.host}:{pods.port}",
                    found=f"{reason}, for {pods.start_timeout_s:.0f} s",
                    todo="see whether that pod runs (kubectl get pods), and whether a network policy keeps the "
                    "job's pods apart",
                )
            self.stop.wait(RETRY_S)

    def _introduce(self, connection: Connection) -> Connection:
        pods, key = self.pods, self.job.key
        greeting = connection.receive()
        if greeting is None or greeting["kind"] != "challenge":
            connection.close()
            raise ConnectionError("no coordinator answers")
        if greeting.get("key") != key:
            connection.close()
            raise StepError(
                "this pod would train something else than pod 0",
                where=f"{pods.host}:{pods.port}",
                expected=f"key {key[:12]}",
                found=f"key {str(greeting.get('key'))[:12]}",
                todo="give all pods the same image, settings, inputs and resources",
            )
        assert pods.index is not None
        address = pods.address or connection.local_address
        connection.send(
            "join",
            key=key,
            index=pods.index,
            proof=proof(pods.token, str(greeting.get("challenge")), key, pods.index),
            address=address,
            port=_free_port(address),
        )
        return connection

    def _serve(self, connection: Connection) -> ModelRef | None:
        """One membership; None to join again."""
        messages: queue.Queue[tuple[int, Any]] = queue.Queue()

        def read() -> None:
            while (message := connection.receive()) is not None:
                messages.put((LEAD, message))
            messages.put((LEAD, None))

        threading.Thread(target=read, name="coordinator", daemon=True).start()
        reporter, index = self.context.reporter, self.pods.index
        while True:
            _, message = messages.get()
            if message is None:
                return None  # before a generation began: nothing is lost
            kind = message["kind"]
            if kind == "accepted":
                reporter.info("joined the training pods", pod=index)
            elif kind == "waiting":
                reporter.info(str(message.get("text")), pod=index)
            elif kind == "refused":
                raise StepError("pod 0 refused this pod", found=str(message.get("why")))
            elif kind == "failed":
                raise GenerationOverError("pod 0 gave up", found=str(message.get("why")))
            elif kind == "begin":
                return self._generation(message, connection, messages)

    def _generation(
        self, begin: dict[str, Any], connection: Connection, messages: "queue.Queue[tuple[int, Any]]"
    ) -> ModelRef | None:
        name, first_rank = str(begin["generation"]), int(begin["first_rank"])
        environments = [
            _checked(given)
            | interface_variables(self.pods.interface or interface_of(connection.local_address))
            for given in begin["environments"]
        ]
        whole = {**self.job.model_dump(mode="json"), "resume": begin["resume"]}
        job = Job.model_validate_json(json.dumps(whole))
        scratch = Path(self.context.scratch, f"pod-{self.pods.index}-generation-{name}")
        scratch.mkdir()
        self.context.reporter.info(
            "training", generation=name, rank=first_rank, of=int(begin["world_size"]), pod=self.pods.index
        )
        with started(
            job,
            self.context.store,
            scratch,
            environments,
            messages,
            first_rank=first_rank,
            echo=lambda rank, line: self.context.reporter.info(line, rank=rank),
        ) as workers:
            return self._watch(name, workers, connection, messages)

    def _watch(
        self,
        name: str,
        workers: list[Worker],
        connection: Connection,
        messages: "queue.Queue[tuple[int, Any]]",
    ) -> ModelRef | None:
        """Carry messages both ways until the coordinator ends the generation; None to join again."""
        running = {worker.rank: worker for worker in workers}
        while True:
            rank, item = messages.get()
            if rank == LEAD:
                if item is None:
                    return self._left_alone(name)
                if item["kind"] == "done":
                    return self._done(item, workers)
                if item["kind"] == "over" and item.get("again"):
                    return None
                if item["kind"] in ("over", "failed"):
                    raise GenerationOverError(
                        f"generation {name} of the training is over",
                        found=str(item.get("why")),
                        todo="nothing: the job starts its pods anew, and they go on from the newest checkpoint"
                        if item["kind"] == "over"
                        else "see pod 0's log",
                    )
            elif item is not None:
                connection.send("message", rank=rank, fields=json.loads(item))
            elif rank in running:
                # Its pipe is closed, so it is about to end.
                worker = running.pop(rank)
                worker.process.wait()
                if worker.process.returncode:
                    first = died_first([worker, *(w for w in running.values() if w.process.poll())])
                    connection.send("died", how=first.how_it_ended(), tail=first.tail()[-8000:])

    def _left_alone(self, name: str) -> ModelRef:
        model = self.published()
        if model is not None:
            return model
        raise GenerationOverError(
            f"generation {name} of the training is over",
            found="pod 0 is gone, or says nothing any more",
            todo="nothing: the job starts its pods anew, and they go on from the newest checkpoint",
        )

    def _done(self, message: dict[str, Any], workers: list[Worker]) -> ModelRef:
        self.monitor.done = message["done"]
        self.monitor.resumed_from = list(message["resumed_from"])
        until = time.monotonic() + FINISH_S
        while any(worker.process.poll() is None for worker in workers) and time.monotonic() < until:
            time.sleep(0.05)
        return ModelRef.model_validate_json(json.dumps(message["done"]["output"]))


@contextmanager
def _beating(connection: Connection, silence_s: float) -> Iterator[None]:
    """Signs of life while the block lasts."""
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(silence_s / BEATS):
            connection.send(ALIVE)

    threading.Thread(target=beat, name="beat", daemon=True).start()
    try:
        yield
    finally:
        ended.set()


def interface_of(address: str) -> str:
    """The network interface that has an address. Raises `StepError`."""
    if address.startswith("127."):
        return "lo"
    for name, addresses in psutil.net_if_addrs().items():
        if any(each.address == address for each in addresses):
            return name
    raise StepError(
        "the network interface of this pod cannot be told",
        found=f"none has the address {address}",
        todo="set CONVEYOR_TRAIN_INTERFACE, such as eth0",
    )


def _free_port(address: str) -> int:
    with socket.socket() as probe:
        probe.bind((address, 0))
        return int(probe.getsockname()[1])


def _checked(given: Any) -> dict[str, str]:
    """Only what a coordinator has to say: no other variable of a worker is its business."""
    return {str(name): str(value) for name, value in dict(given).items() if str(name).startswith(SHARED)}
