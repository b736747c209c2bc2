"""A step of several inputs takes only what belongs together: none of them made from another result than it gets itself.

Where a run was stopped and applied again with a new source, one Job may have started from what the next one replaces.
"""

from collections.abc import Mapping

from components.common.errors import InputError
from components.common.records import read_record
from components.common.runs import Pointer
from components.common.store import Store


def refuse_mixed(store: Store, run_id: str, step: str, pointers: Mapping[str, Pointer]) -> None:
    """Raises `InputError` where one of `pointers` (step → its result in the run) was made from another result of a
    step than that step's own pointer names. One that was made again and came out the same is no other."""
    for near, pointer in pointers.items():
        for far, used in pointer.used.items():
            other = pointers.get(far)
            if other is None or other.job is None or other.job == used:
                continue
            made, input_now = read_record(store, near, pointer.key), read_record(store, far, other.key)
            if made is None or input_now is None or input_now.output in made.inputs.values():
                continue
            raise InputError(
                f"the inputs of {step} do not belong together",
                where=f"run {run_id}",
                expected=f"a result of {near} that was made from the newest one of {far}",
                found=f"{near} had started from an earlier one",
                todo="delete all Jobs of the run and apply again: what has not changed is reused",
            )
