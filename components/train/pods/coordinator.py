"""The server that all members of a training connect to: it lets them in, and hears who lives and who is gone."""

import queue
import socket
import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self

from components.train.pods.wire import (
    ALIVE,
    BEATS,
    MAX_FIRST_LINE,
    Connection,
    new_challenge,
    proves,
)

STRANGERS = 64
"""Connections at a time that have not said yet who they are."""
INTRODUCTION_S = 10.0


@dataclass(frozen=True, slots=True, eq=False)
class Member:
    """A pod that joined; a pod that was started anew is another member of the same index."""

    index: int
    address: str
    port: int
    """That was free there, for an engine whose first rank serves its own rendezvous."""
    connection: Connection


@dataclass(frozen=True, slots=True)
class Event:
    """Something that a member said; `message` is None once it is gone."""

    member: Member
    message: dict[str, Any] | None


JOINED = "joined"


class Coordinator:
    """Listens until its block ends. All that happens comes out of `events`, a join first of all."""

    def __init__(
        self, address: str, port: int, *, key: str, count: int, token: str, silence_s: float
    ) -> None:
        self._key, self._count, self._token, self._silence_s = key, count, token, silence_s
        self.events: queue.Queue[Event] = queue.Queue()
        self._members: set[Member] = set()
        self._lock = threading.Lock()
        self._strangers = threading.BoundedSemaphore(STRANGERS)
        self._closed = threading.Event()
        self._server = socket.create_server((address, port), backlog=min(128, count + STRANGERS))
        self.address, self.port = self._server.getsockname()[:2]

    def __enter__(self) -> Self:
        for target in (self._accept, self._beat):
            threading.Thread(target=target, name=f"coordinator{target.__name__}", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        # Wakes the thread in accept(), which closing alone does not.
        with suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self.hang_up()

    def hang_up(self) -> None:
        """End all connections."""
        with self._lock:
            members = list(self._members)
        for member in members:
            member.connection.close()

    def _accept(self) -> None:
        while not self._closed.is_set():
            try:
                sock, _ = self._server.accept()
            except OSError:
                if self._closed.wait(0.1):
                    return
                continue
            if not self._strangers.acquire(blocking=False):
                sock.close()
                continue
            threading.Thread(target=self._serve, args=(sock,), name="member", daemon=True).start()

    def _beat(self) -> None:
        while not self._closed.wait(self._silence_s / BEATS):
            with self._lock:
                members = list(self._members)
            for member in members:
                member.connection.send(ALIVE)

    def _serve(self, sock: socket.socket) -> None:
        member = None
        try:
            connection = Connection(sock, INTRODUCTION_S)
            member = self._introduced(connection)
            if member is None:
                connection.close()
                return
            sock.settimeout(self._silence_s)
        except OSError:
            sock.close()
        finally:
            self._strangers.release()
        if member is not None:
            self._listen(member)

    def _introduced(self, connection: Connection) -> Member | None:
        challenge = new_challenge()
        connection.send("challenge", challenge=challenge, key=self._key)
        message = connection.receive(MAX_FIRST_LINE)
        if message is None or message["kind"] != "join":
            return None
        key, index = message.get("key"), message.get("index")
        if not isinstance(index, int) or not isinstance(key, str):
            return None
        if not proves(message.get("proof"), self._token, challenge, key, index):
            connection.send("refused", why="it does not know the job's token")
            return None
        if key != self._key:
            connection.send("refused", why="it is about to train something else", key=self._key)
            return None
        if not 0 <= index < self._count:
            connection.send("refused", why=f"there are only {self._count} pods")
            return None
        port = message.get("port")
        address = message.get("address") or connection.peer_address
        if not isinstance(address, str) or not isinstance(port, int):
            return None
        return Member(index, address, port, connection)

    def _listen(self, member: Member) -> None:
        with self._lock:
            self._members.add(member)
        self.events.put(Event(member, {"kind": JOINED}))
        while (message := member.connection.receive()) is not None:
            self.events.put(Event(member, message))
        with self._lock:
            self._members.discard(member)
        member.connection.close()
        self.events.put(Event(member, None))
