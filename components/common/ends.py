"""How a step of a run ended where nobody stands beside it: `runs/<id>/<step>.ended.json`, for who reports later."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from components.common.canonical import Json, canonical_json
from components.common.errors import StoreError
from components.common.store.base import NotFoundError, Store

MAX_TRIES = 20
"""Of writing beside the other pods of the step; more is no coincidence."""


@dataclass(frozen=True, slots=True)
class End:
    """One step's end. It is no result: records are."""

    step: str
    state: str
    """done, reused or failed."""
    seconds: float
    job: str = ""
    """Who ran it (Kubeflow's name of the run), so that what an earlier one of the same name left does not count."""
    error: Mapping[str, Any] = field(default_factory=dict)
    """Of a failed step: what, where, expected, found, todo, exit_code."""


def note_end(store: Store, run_id: str, end: End) -> None:
    """Write it; a later try of the same step replaces it."""
    store.put(_name(run_id, end.step), _encode(end))


def change_end(store: Store, run_id: str, step: str, change: Callable[[End | None], End]) -> End:
    """Replace what stands there by what `change` makes of it, beside other pods that do the same, and return that.

    Raises `StoreError`.
    """
    name = _name(run_id, step)
    for _ in range(MAX_TRIES):
        try:
            data, tag = store.read(name)
        except NotFoundError:
            before, tag = None, None
        else:
            before = _decode(data)
        after = change(before)
        if store.swap(name, _encode(after), tag=tag):
            return after
    raise StoreError(f"other pods kept replacing the last word of {step}", where=f"{store.url}/{name}")


def read_end(store: Store, run_id: str, step: str) -> End | None:
    """None where the step has not ended, was killed without a word, or left something unreadable."""
    try:
        data, _ = store.read(_name(run_id, step))
    except NotFoundError:
        return None
    return _decode(data)


def forget_end(store: Store, run_id: str, step: str) -> None:
    """The step starts over."""
    store.delete(_name(run_id, step))


def _encode(end: End) -> bytes:
    value: dict[str, Json] = {
        "version": 1,
        "ended": end.step,
        "state": end.state,
        "seconds": round(end.seconds, 3),
        "job": end.job,
        "error": dict(end.error),
    }
    return canonical_json(value)


def _decode(data: bytes) -> End | None:
    try:
        value = json.loads(data)
        return End(
            step=str(value["ended"]),
            state=str(value["state"]),
            seconds=float(value["seconds"]),
            job=str(value["job"]),
            error=dict(value["error"]),
        )
    except (ValueError, KeyError, TypeError):
        return None


def _name(run_id: str, step: str) -> str:
    # The dot keeps it apart from the pointers, which are named by steps.
    return f"runs/{run_id}/{step}.ended.json"
