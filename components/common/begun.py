"""Which Job of a step is the newest, and what it found: `runs/<id>/<step>.begun.json`, written by `announce`."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from components.common.canonical import Json, canonical_json
from components.common.store.base import NotFoundError, Store

UNREADABLE = ""
"""Stands for a Job whose name cannot be read: no Job's."""


@dataclass(frozen=True, slots=True)
class Begun:
    """The newest Job of a step, as its first pod announced it."""

    step: str
    job: str
    there: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Step → the Job whose result stood in the run at that moment."""
    failed: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Step → the Job whose last word stood there: it had failed for good."""
    before: str | None = None
    """The Job of the step that had announced itself before; None where none had."""
    settled: bool = False
    """No new Jobs came within the time that they have for it: what was there counts."""

    def outlived(self, newest: "Begun | None") -> bool:
        """Whether `newest`, of another step, is known to have begun after the predecessor of this Job had ended.

        It then belongs to this Job's own application, which it began and ended before this one's first pod started; or
        to one in between, in which this step never got as far. Elsewhere it is most likely the predecessor's companion.
        """
        if newest is None:
            return False
        return self.before is None or self.before in (
            newest.there.get(self.step),
            newest.failed.get(self.step),
        )


def read_begun(store: Store, run_id: str, step: str) -> Begun | None:
    """The newest Job of the step, None where none has announced itself."""
    return read_tagged(store, run_id, step)[0]


def is_superseded(store: Store, run_id: str, step: str, job: str) -> bool:
    """Whether a newer Job of the step has begun; `job` is a pod of an earlier one that is still there, unseen."""
    newest = read_begun(store, run_id, step)
    return newest is not None and newest.job != job


def read_tagged(store: Store, run_id: str, step: str) -> tuple[Begun | None, str | None]:
    """None for an announcement that is unreadable, too: it can be replaced."""
    try:
        data, tag = store.read(name_of(run_id, step))
    except NotFoundError:
        return None, None
    try:
        value = json.loads(data)
        return (
            Begun(
                step=str(value["begun"]),
                job=str(value["job"]),
                there=dict(value["there"]),
                failed=dict(value["failed"]),
                before=value.get("before", UNREADABLE),
                settled=bool(value["settled"]),
            ),
            tag,
        )
    except (ValueError, KeyError, TypeError):
        return None, tag


def swap(store: Store, run_id: str, begun: Begun, tag: str | None) -> bool:
    value: dict[str, Json] = {
        "version": 1,
        "begun": begun.step,
        "job": begun.job,
        "there": dict(begun.there),
        "failed": dict(begun.failed),
        "before": begun.before,
        "settled": begun.settled,
    }
    return store.swap(name_of(run_id, begun.step), canonical_json(value), tag=tag)


def name_of(run_id: str, step: str) -> str:
    # The dot keeps it apart from the pointers, which are named by steps.
    return f"runs/{run_id}/{step}.begun.json"
