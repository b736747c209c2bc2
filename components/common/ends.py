"""How a step of a run ended where nobody stands beside it: `runs/<id>/<step>.ended.json`, for who reports later."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from components.common.canonical import Json, canonical_json
from components.common.store.base import NotFoundError, Store


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
    value: dict[str, Json] = {
        "version": 1,
        "ended": end.step,
        "state": end.state,
        "seconds": round(end.seconds, 3),
        "job": end.job,
        "error": dict(end.error),
    }
    store.put(_name(run_id, end.step), canonical_json(value))


def read_end(store: Store, run_id: str, step: str) -> End | None:
    """None where the step has not ended, was killed without a word, or left something unreadable."""
    try:
        data, _ = store.read(_name(run_id, step))
        value = json.loads(data)
        return End(
            step=str(value["ended"]),
            state=str(value["state"]),
            seconds=float(value["seconds"]),
            job=str(value["job"]),
            error=dict(value["error"]),
        )
    except (NotFoundError, ValueError, KeyError, TypeError):
        return None


def _name(run_id: str, step: str) -> str:
    # The dot keeps it apart from the pointers, which are named by steps.
    return f"runs/{run_id}/{step}.ended.json"


def forget_end(store: Store, run_id: str, step: str) -> None:
    """The step starts over."""
    store.delete(_name(run_id, step))
