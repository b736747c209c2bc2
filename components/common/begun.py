"""Which Job of a step is the newest, and what it found: `runs/<id>/<step>.begun.json`.

Jobs that are applied again start all at once, beside what their predecessors left in the run. Each announces itself
before it waits, so that the others can tell a result, or a word of failure, of this application from an older one.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from components.common.canonical import Json, canonical_json
from components.common.errors import StoreError
from components.common.failed import read_failure
from components.common.runs import read_pointer
from components.common.store.base import NotFoundError, Store

ENDED = ".ended"
MAX_TRIES = 20
"""Of writing beside the other pods of the step; more is no coincidence."""
UNREADABLE = ""


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


def announce(store: Store, run_id: str, step: str, job: str) -> Begun:
    """Make `job` the newest of `step`, and return what its first pod found. Raises `StoreError`."""
    for _ in range(MAX_TRIES):
        found, tag = _read(store, run_id, step)
        if found is not None and found.job == job:
            return found
        there, failed = _look(store, run_id)
        # What is unreadable was somebody's: no name is its.
        before = found.job if found is not None else None if tag is None else UNREADABLE
        begun = Begun(step, job, there, failed, before)
        if _write(store, run_id, begun, tag):
            return begun
    raise _crowded(store, run_id, step)


def settle(store: Store, run_id: str, begun: Begun) -> None:
    """Spare the Job's next pods, and its next wait, what this one has waited for. Raises `StoreError`."""
    for _ in range(MAX_TRIES):
        found, tag = _read(store, run_id, begun.step)
        if found is None or found.job != begun.job or found.settled:
            return
        if _write(store, run_id, replace(found, settled=True), tag):
            return
    raise _crowded(store, run_id, begun.step)


def read_begun(store: Store, run_id: str, step: str) -> Begun | None:
    """The newest Job of the step, None where none has announced itself."""
    return _read(store, run_id, step)[0]


def _look(store: Store, run_id: str) -> tuple[dict[str, str], dict[str, str]]:
    prefix = f"runs/{run_id}/"
    names = [info.key.removeprefix(prefix).removesuffix(".json") for info in store.list(prefix)]
    there, failed = {}, {}
    for name in names:
        if name.endswith(ENDED):
            step = name.removesuffix(ENDED)
            failure = read_failure(store, run_id, step)
            if failure is not None and failure.final:
                failed[step] = failure.job
        elif "." not in name and name != "result":  # names of steps have no dot
            pointer = read_pointer(store, run_id, name)
            if pointer is not None and pointer.job is not None:
                there[name] = pointer.job
    return there, failed


def _read(store: Store, run_id: str, step: str) -> tuple[Begun | None, str | None]:
    """None for an announcement that is unreadable, too: it can be replaced."""
    try:
        data, tag = store.read(_name(run_id, step))
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


def _write(store: Store, run_id: str, begun: Begun, tag: str | None) -> bool:
    value: dict[str, Json] = {
        "version": 1,
        "begun": begun.step,
        "job": begun.job,
        "there": dict(begun.there),
        "failed": dict(begun.failed),
        "before": begun.before,
        "settled": begun.settled,
    }
    return store.swap(_name(run_id, begun.step), canonical_json(value), tag=tag)


def _crowded(store: Store, run_id: str, step: str) -> StoreError:
    return StoreError(
        f"other pods of {step} kept replacing its announcement",
        where=f"{store.url}/{_name(run_id, step)}",
        todo="look for two Jobs of the same step and run: delete one of them",
    )


def _name(run_id: str, step: str) -> str:
    # The dot keeps it apart from the pointers, which are named by steps.
    return f"runs/{run_id}/{step}.begun.json"
