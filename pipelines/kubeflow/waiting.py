"""Pods of a Kubeflow run that do not start: Kubeflow shows the step as running, and waits for ever."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Waiting:
    """A pod that has not started, and the step that it is of."""

    step: str
    pod: str


def waiting_pods(run: Any, names: Sequence[str]) -> list[Waiting]:
    """The pods of running steps that are still pending.

    The server lists every node of Argo's workflow: a step, below it `executor`, and below that a node for each try, which
    is a pod. Children are named as nodes (`WORKFLOW-HASH`), the nodes themselves as their pods
    (`WORKFLOW-TEMPLATE-HASH`): the hash is what both have.
    """
    details = (run.run_details.task_details if run.run_details else None) or ()
    by_hash: Mapping[str, Any] = {_hash(detail.pod_name): detail for detail in details if detail.pod_name}
    found = []
    for driver in details:
        # Before the step itself, in servers whose drivers are pods.
        step_name = (driver.display_name or "").removesuffix("-driver")
        if step_name != driver.display_name and step_name in names and driver.state == "PENDING":
            found.append(Waiting(step_name, driver.pod_name))
    for step in details:
        if step.display_name not in names or step.state != "RUNNING":
            continue
        below, seen = _children(step), set[str]()
        while below:
            each = below.pop()
            detail = by_hash.get(each)
            if detail is None or each in seen:
                continue
            seen.add(each)
            children = _children(detail)
            below += children
            if detail.state == "PENDING" and not any(child in by_hash for child in children):
                found.append(Waiting(step.display_name, detail.pod_name))
    return found


def _children(detail: Any) -> list[str]:
    return [_hash(child.pod_name) for child in detail.child_tasks or () if child.pod_name]


def _hash(name: str) -> str:
    return name.rpartition("-")[2]


class Waits:
    """Since when each pod has been waiting; tells of each once."""

    def __init__(self, patience_s: float, clock: Callable[[], float]) -> None:
        self.patience_s = patience_s
        self.clock = clock
        self.since: dict[str, float] = {}
        self.told: set[str] = set()

    def too_long(self, waiting: Sequence[Waiting]) -> list[Waiting]:
        """Those that have waited longer than the patience, and were not told of before."""
        now = self.clock()
        found = []
        for each in waiting:
            since = self.since.setdefault(each.pod, now)
            if now - since >= self.patience_s and each.pod not in self.told:
                self.told.add(each.pod)
                found.append(each)
        return found
