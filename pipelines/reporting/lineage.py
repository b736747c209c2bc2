"""Steps and lineage: what ran, how long, and by what names everything can be found again."""

from typing import Any

import yaml

from pipelines.reporting.gather import RunView, StepView


def steps_context(view: RunView) -> list[dict[str, Any]]:
    """A row for each step, the one that failed included."""
    longest = max((step.seconds for step in view.steps.values()), default=0.0) or 1.0
    rows = [
        {
            "name": step.name,
            "state": step.state,
            "kind": "good" if step.state == "done" else "plain",
            "seconds": f"{step.seconds:.1f}",
            "work": _work(step),
            "share": round(100 * step.seconds / longest, 1),
            "key": step.record.key[:12],
        }
        for step in view.steps.values()
    ]
    if view.failed_step is not None and view.failed_step not in view.steps:
        failed = {"name": view.failed_step, "state": "failed", "kind": "bad"}
        rows.append({**failed, "seconds": "", "work": "", "share": 0, "key": ""})
    return rows


def lineage_context(view: RunView) -> list[dict[str, Any]]:
    """Digests and settings of each step."""
    return [
        {
            "name": step.name,
            "kind": step.output.kind,
            "tree": step.output.tree,
            "code": step.record.code,
            "key": step.record.key,
            "config": to_yaml(step.record.config),
            "depends_on": to_yaml(step.record.depends_on),
        }
        for step in view.steps.values()
    ]


def to_yaml(value: dict[str, Any]) -> str:
    text: str = yaml.safe_dump(value, sort_keys=True, allow_unicode=True, default_flow_style=False, width=110)
    return text if value else ""


def _work(step: StepView) -> str:
    """How long a reused step took when it was done."""
    seconds = step.measurements.get("seconds")
    return f"{float(seconds):.1f} s" if seconds is not None and step.state == "reused" else ""
