"""A Job announces itself in its run, before it waits.

Jobs that are applied again start all at once, beside what their predecessors left in the run. From what each announces
the others can tell a result, or a word of failure, of this application from an older one.
"""

from dataclasses import replace

from components.common.begun import UNREADABLE, Begun, name_of, read_tagged, swap
from components.common.errors import StoreError
from components.common.failed import read_failure
from components.common.runs import read_pointer
from components.common.store.base import Store

ENDED = ".ended"
MAX_TRIES = 20
"""Of writing beside the other pods of the step; more is no coincidence."""


def announce(store: Store, run_id: str, step: str, job: str) -> Begun:
    """Make `job` the newest of `step`, and return what its first pod found. Raises `StoreError`."""
    for _ in range(MAX_TRIES):
        found, tag = read_tagged(store, run_id, step)
        if found is not None and found.job == job:
            return found
        there, failed = _look(store, run_id)
        # What is unreadable was somebody's: no name is its.
        before = found.job if found is not None else None if tag is None else UNREADABLE
        begun = Begun(step, job, there, failed, before)
        if swap(store, run_id, begun, tag):
            return begun
    raise _crowded(store, run_id, step)


def settle(store: Store, run_id: str, begun: Begun) -> None:
    """Spare the Job's next pods, and its next wait, what this one has waited for. Raises `StoreError`."""
    for _ in range(MAX_TRIES):
        found, tag = read_tagged(store, run_id, begun.step)
        if found is None or found.job != begun.job or found.settled:
            return
        if swap(store, run_id, replace(found, settled=True), tag):
            return
    raise _crowded(store, run_id, begun.step)


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


def _crowded(store: Store, run_id: str, step: str) -> StoreError:
    return StoreError(
        f"other pods of {step} kept replacing its announcement",
        where=f"{store.url}/{name_of(run_id, step)}",
        todo="look for two Jobs of the same step and run: delete one of them",
    )
