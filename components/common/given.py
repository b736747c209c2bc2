"""Inputs that no edge of the graph fills: `runs/<id>/<step>.inputs.json`, so that a pod finds what its launcher chose."""

import json
from collections.abc import Mapping

from components.common.canonical import canonical_json
from components.common.errors import StoreError
from components.common.refs import Ref, parse_ref
from components.common.store.base import NotFoundError, Store


def give(store: Store, run_id: str, step: str, inputs: Mapping[str, Ref]) -> None:
    """Note what `step` of the run gets besides the results of other steps; replaces what an earlier try noted."""
    name = _name(run_id, step)
    if not inputs:
        if store.stat(name) is not None:
            store.delete(name)
        return
    given = {field: ref.to_value() for field, ref in inputs.items()}
    store.put(name, canonical_json({"version": 1, "given": given}))


def given(store: Store, run_id: str, step: str) -> dict[str, Ref]:
    """Input → reference, as noted; empty where nothing is."""
    name = _name(run_id, step)
    try:
        data, _ = store.read(name)
    except NotFoundError:
        return {}
    where = f"{store.url}/{name}"
    try:
        found = json.loads(data)["given"]
        return {str(field): parse_ref(value, where=where) for field, value in found.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreError("a run's inputs are damaged", where=where, found=repr(error)) from error


def _name(run_id: str, step: str) -> str:
    # The dot keeps it apart from the pointers, which are named by steps.
    return f"runs/{run_id}/{step}.inputs.json"
