"""The nodes of a run, as a Kubeflow Pipelines server lists them under `task_details`.

It lists every node of Argo's workflow, in the order of their hashes: for a task `NAME` its driver, `NAME` itself, `executor`
below it, and below that a node for each try, which is the pod. A node is named as its pod would be
(`WORKFLOW-TEMPLATE-HASH`), its children as nodes (`WORKFLOW-HASH`). What was left out has no state.
"""

import hashlib
import uuid
from datetime import UTC, datetime
from typing import Any

Object = dict[str, Any]


class Nodes:
    """Of one run."""

    def __init__(self, run: Object) -> None:
        self.run_id = run["run_id"]
        self.workflow = f"conveyor-{self.run_id[:5]}"
        self.details: list[Object] = run["run_details"]["task_details"]

    def begin(self, name: str, pod_state: str) -> None:
        """The task's driver has run, its pod is there."""
        self._add(f"{name}-driver", f"{name}/driver", "system-container-driver", "SUCCEEDED")
        self._add(name, name, "system-container-executor", "RUNNING", f"{name}/executor")
        self._add("executor", f"{name}/executor", "retry-system-container-impl", "RUNNING", f"{name}/0")
        self._add("executor(0)", f"{name}/0", "retry-system-container-impl", pod_state)

    def end(self, name: str, state: str) -> None:
        """The task has ended."""
        ended = {self._hash(each) for each in (name, f"{name}/executor", f"{name}/0")}
        for detail in self.details:
            if detail["pod_name"].rpartition("-")[2] in ended:
                detail["state"], detail["end_time"] = state, now()

    def omit(self, name: str) -> None:
        """The task never ran, since one before it failed."""
        self._add(f"{name}-driver", f"{name}/driver", "system-container-driver", "RUNTIME_STATE_UNSPECIFIED")
        self._add(name, name, "system-container-executor", "RUNTIME_STATE_UNSPECIFIED")

    def of_state(self, *states: str) -> list[Object]:
        """Those in one of the states."""
        return [detail for detail in self.details if detail["state"] in states]

    def _add(self, display_name: str, node: str, template: str, state: str, *children: str) -> None:
        self.details.append(
            {
                "run_id": self.run_id,
                "task_id": str(uuid.uuid4()),
                "display_name": display_name,
                "pod_name": f"{self.workflow}-{template}-{self._hash(node)}",
                "state": state,
                "start_time": now(),
                "child_tasks": [{"pod_name": f"{self.workflow}-{self._hash(child)}"} for child in children],
            }
        )
        self.details.sort(key=lambda detail: str(detail["pod_name"].rpartition("-")[2]))

    def _hash(self, node: str) -> str:
        return str(int(hashlib.sha256(f"{self.run_id}/{node}".encode()).hexdigest()[:8], 16))


def now() -> str:
    """As the API writes times."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
