"""Checkpoints in the store: written in the background, checked by digest, the newest valid one wins.

A checkpoint is a tree (`state.safetensors`, `progress.json`) and a pointer `checkpoints/<key>/<step>.json` to it,
written last. Only the newest few pointers are kept; trees and blobs that no pointer names any more are `conveyor gc`'s.
Nothing here needs torch.
"""

import json
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from components.common.blobs import Blobs
from components.common.canonical import Json, canonical_json
from components.common.errors import ConveyorError
from components.common.store.base import NotFoundError, Store, UnreadableError
from components.common.store.streams import chunks
from components.common.trees import Tree

STATE, PROGRESS = "state.safetensors", "progress.json"
NAME = re.compile(r"checkpoints/[0-9a-f]{64}/\d{8,}\.json")
REST = 10
"""A write is followed by a pause this many times as long: checkpoints never take more than a tenth of the time (but
for the first)."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A pointer that was read."""

    name: str
    step: int
    tree: str


def prefix(key: str) -> str:
    return f"checkpoints/{key}/"


def list_checkpoints(store: Store, key: str) -> list[str]:
    """Names of the pointers, newest first."""
    names = [info.key for info in store.list(prefix(key)) if NAME.fullmatch(info.key)]
    return sorted(names, key=_step_of, reverse=True)


def newest_step(store: Store, key: str) -> int:
    """Step of the newest pointer, -1 where there is none; nothing is checked."""
    return max((_step_of(name) for name in list_checkpoints(store, key)), default=-1)


def newest_valid(store: Store, blobs: Blobs, key: str, warn: Callable[[str], None]) -> Checkpoint | None:
    """The newest checkpoint of which every byte is there and has its digest; `warn` hears of each that is not.

    Raises what a store raises that is away or refuses: nothing is known then, and least of all that it is damaged.
    """
    for name in list_checkpoints(store, key):
        try:
            data, _ = store.read(name)
        except NotFoundError:
            continue  # another process on the same training has just replaced it
        try:
            value = json.loads(data)
            if value["version"] != 1:
                raise ValueError(f"version {value['version']}")
            found = Checkpoint(name, int(value["step"]), str(value["tree"]))
            for entry in Tree.read(blobs, found.tree).entries.values():
                _check(blobs, entry.digest)
        except (NotFoundError, UnreadableError, ValueError, KeyError, TypeError) as error:
            reason = error.what if isinstance(error, ConveyorError) else repr(error)
            warn(f"the checkpoint {name} is damaged ({reason}); taking the one before it")
            continue
        return found
    return None


def _check(blobs: Blobs, digest: str) -> None:
    """Read a blob to its end, in pieces: who leads a training without taking part has no memory for a model."""
    with blobs.open(digest) as stream:
        for _ in chunks(stream):
            pass


def write_checkpoint(
    store: Store, blobs: Blobs, key: str, *, step: int, state: bytes, progress: Json, keep: int
) -> str:
    """Write tree and pointer, then drop the pointers beyond the newest `keep`. Returns the tree's digest."""
    tree = Tree.write(blobs, {STATE: blobs.put(state), PROGRESS: blobs.put(canonical_json(progress))})
    pointer: Json = {"kind": "checkpoint", "version": 1, "step": step, "tree": tree}
    store.put(f"{prefix(key)}{step:08d}.json", canonical_json(pointer))
    # What lies ahead of us was damaged when we resumed, and must not crowd out what is whole.
    names = list_checkpoints(store, key)
    past = [name for name in names if _step_of(name) <= step]
    for name in [*(name for name in names if _step_of(name) > step), *past[keep:]]:
        store.delete(name)
    return tree


def read_checkpoint(blobs: Blobs, tree: str) -> tuple[bytes, dict[str, object]]:
    """State bytes and progress of a checkpoint's tree, both checked."""
    entries = Tree.read(blobs, tree)
    return blobs.read(entries[STATE].digest), json.loads(blobs.read(entries[PROGRESS].digest))


def remove_checkpoints(store: Store, key: str) -> None:
    """Drop all pointers of a training that is done."""
    for name in list_checkpoints(store, key):
        store.delete(name)


def _step_of(name: str) -> int:
    return int(name.rpartition("/")[2].removesuffix(".json"))


class CheckpointWriter:
    """Writes one checkpoint at a time in a thread of its own; training waits for no more than a copy.

    `write` is called in that thread with what `take` was given. A write that fails is told to `warn` and training goes
    on: the store may be back for the next one.
    """

    def __init__(
        self,
        write: Callable[[int, dict[str, object], Json], None],
        *,
        warn: Callable[[str], None],
        interval_s: float,
        interval_steps: int | None,
        start_step: int,
    ) -> None:
        self._write, self._warn = write, warn
        self._interval_s, self._interval_steps = interval_s, interval_steps
        self._last_step = start_step
        self._is_first = True
        self._next_time = time.monotonic() + interval_s
        self._thread: threading.Thread | None = None

    def due(self, step: int) -> bool:
        """Whether it is time for one, and the last one is written."""
        if self._thread is not None and self._thread.is_alive():
            return False
        if self._interval_steps is not None:
            return step - self._last_step >= self._interval_steps
        return time.monotonic() >= self._next_time

    def take(self, step: int, tensors: dict[str, object], progress: Json) -> None:
        """Write `tensors`, which are copies, in the background."""
        self._last_step = step
        self._thread = threading.Thread(
            target=self._run, args=(step, tensors, progress), name="checkpoint", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Wait for the write in progress."""
        if self._thread is not None:
            self._thread.join()

    def _run(self, step: int, tensors: dict[str, object], progress: Json) -> None:
        started = time.monotonic()
        try:
            self._write(step, tensors, progress)
        except (ConveyorError, OSError) as error:
            what = error.what if isinstance(error, ConveyorError) else str(error)
            self._warn(
                f"the checkpoint of step {step} could not be written ({what}); training goes on without it"
            )
        now = time.monotonic()
        # The first one also imports the store's client and connects, while the workers start: on a busy machine many
        # times as long as the next one will take.
        rest_s = REST * (now - started) if self._interval_s and not self._is_first else 0.0
        self._is_first = False
        self._next_time = now + max(self._interval_s, rest_s)
