"""What the pods say to each other: JSON lines over TCP, of bounded size, with a sign of life from both ends.

Whoever connects first proves that it knows the job's token, without sending it (a challenge answered by HMAC).
"""

import hashlib
import hmac
import json
import secrets
import socket
import threading
from contextlib import suppress
from typing import Any

MAX_LINE = 1 << 20
MAX_FIRST_LINE = 4 << 10
"""From somebody whom we do not know yet."""
ALIVE = "alive"
BEATS = 7
"""Signs of life in the time after which silence means death."""


class Connection:
    """One end. `receive` belongs to one thread, `send` to any.

    Silence of `silence_s` seconds, a broken connection and a line that is no message all mean the same: None, and the
    other end counts as dead.
    """

    def __init__(self, sock: socket.socket, silence_s: float) -> None:
        self._socket, self._lock = sock, threading.Lock()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.settimeout(silence_s)
        self._stream = sock.makefile("rb")
        self.local_address = str(sock.getsockname()[0])
        self.peer_address = str(sock.getpeername()[0])

    def send(self, kind: str, **fields: Any) -> None:
        """Nothing happens where the other end is gone: `receive` is what says so."""
        line = json.dumps({"kind": kind, **fields}).encode() + b"\n"
        if len(line) > MAX_LINE:
            raise ValueError(f"a message of {len(line)} bytes: {kind}")
        with suppress(OSError), self._lock:
            self._socket.sendall(line)

    def receive(self, limit: int = MAX_LINE) -> dict[str, Any] | None:
        """The next message that says more than that the other end lives."""
        while True:
            try:
                line = self._stream.readline(limit + 1)
                if len(line) > limit or not line.endswith(b"\n"):
                    return None
                message = json.loads(line)
            except (OSError, ValueError):
                return None
            if not isinstance(message, dict) or not isinstance(message.get("kind"), str):
                return None
            if message["kind"] != ALIVE:
                return message

    def close(self) -> None:
        """Both directions, at once; a thread in `receive` wakes up."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        with suppress(OSError):
            self._socket.close()


def new_challenge() -> str:
    return secrets.token_hex(16)


def proof(token: str, challenge: str, key: str, index: int) -> str:
    """What only somebody who knows the token can answer to the challenge."""
    text = f"{challenge} {key} {index}".encode()
    return hmac.new(token.encode(), text, hashlib.sha256).hexdigest()


def proves(answer: object, token: str, challenge: str, key: str, index: int) -> bool:
    return isinstance(answer, str) and hmac.compare_digest(answer, proof(token, challenge, key, index))
