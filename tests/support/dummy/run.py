"""The dummy step: one small blob, or the failure that the test asked for."""

import errno
import os
import signal
from typing import Literal

from components.common.canonical import Json
from components.common.errors import InputError
from components.common.refs import REF_TYPES, Ref, SnapshotRef
from components.common.step import StepContext, StepInputs
from components.common.store import Store
from components.common.trees import Tree
from support.dummy.config import DummyConfig

NAME = "dummy"


class DummyRef(Ref):
    """What the dummy step made."""

    kind: Literal["dummy"] = "dummy"
    words: str


REF_TYPES.setdefault("dummy", DummyRef)


class Inputs(StepInputs):
    """Whatever images there are."""

    snapshot: SnapshotRef | None = None


def depends_on(config: DummyConfig, inputs: Inputs, store: Store) -> dict[str, Json]:
    return {}


def run(config: DummyConfig, inputs: Inputs, context: StepContext) -> DummyRef:
    if config.behaviour == "input_error":
        raise InputError(
            "the dummy does not like this", where="here", expected="something else", todo="try again"
        )
    if config.behaviour == "bug":
        raise ZeroDivisionError("the dummy divided by zero")
    if config.behaviour == "disk_full":
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/somewhere/full")
    if config.behaviour == "wait":
        context.reporter.info("waiting for a signal")
        signal.pause()
    words = " ".join([config.greeting] * config.times)
    with context.reporter.task("greet", total=config.times, unit="times") as task:
        task.advance(config.times)
    context.measure["loudness"] = 11
    entry = context.blobs.put(words.encode())
    return DummyRef(tree=Tree.write(context.blobs, {"words.txt": entry}), words=words)
