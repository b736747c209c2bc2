"""A step inside a Kubeflow pod: parameters and small JSON artifacts in, the same out. Never imports kfp."""

import base64
import json
import math
import os
import re
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import yaml

from components.common.blobs import Blobs
from components.common.canonical import canonical_json
from components.common.config import Override, load_config
from components.common.ends import End, note_end
from components.common.errors import InputError
from components.common.failures import error_fields, explain, graceful, report_failure
from components.common.main import run_step, write_file
from components.common.refs import CompressedRef
from components.common.sections import RootBase, known_steps, root_model
from components.common.step import Outcome
from components.common.store import open_store
from components.common.trees import Tree

IMAGE = "conveyor:latest"
"""Set anew by `conveyor compile --image`."""
PID_FILE = Path("/tmp/conveyor.pid")  # noqa: S108 - the pod's own
"""Where a pod's program can be found by what Argo runs beside it to end it (`STOP`)."""
STOP = ("sh", "-c", f"signal=%d; read -r pid < {PID_FILE} && kill -$signal $pid || kill -$signal 1")
"""How Argo is to signal a task's container. Left to itself it signals all processes there are, of which Kubeflow's
launcher dies at once, and with it the container: within a second, in which nothing can be ended in good order."""


class Artifact(Protocol):
    """What this module needs of a kfp artifact."""

    path: str
    metadata: dict[str, Any]


class Metrics(Protocol):
    """kfp's `dsl.Metrics`, as far as we use it."""

    def log_metric(self, metric: str, value: float) -> None:
        """Show one figure."""
        ...


class Classification(Protocol):
    """kfp's `dsl.ClassificationMetrics`, as far as we use it."""

    def log_confusion_matrix(self, categories: list[str], matrix: list[list[int]]) -> None:
        """Rows are true classes."""
        ...

    def log_roc_curve(self, fpr: list[float], tpr: list[float], threshold: list[float]) -> None:
        """All finite."""
        ...


@dataclass(frozen=True, slots=True)
class Finished:
    """A finished step and the store that its result lies in."""

    outcome: Outcome
    blobs: Blobs

    def entry(self, name: str) -> bytes:
        """One file of the result's tree."""
        return self.blobs.read(Tree.read(self.blobs, self.outcome.output.tree)[name].digest)


Runner = Callable[..., Outcome]
"""`run_step`, or what runs the step elsewhere with the same arguments (training in several pods)."""


def run_component(
    package: str,
    run: str,
    store: str,
    config: str = "",
    settings: Mapping[str, object] | None = None,
    *,
    job: str = "",
    inputs: Mapping[str, Artifact] | None = None,
    reference: Artifact,
    metrics: Metrics | None = None,
    runner: Runner = run_step,
) -> Finished:
    """Run the step in `package`; its result's reference goes to the artifact `reference`, its figures to `metrics`.

    `run` is the run's name, empty for Kubeflow's own, `job`. `settings` holds the parameters of a form by the key that
    they set; "" and 0 mean "not filled in". Exits with the step's status after printing one clear error. How the step
    ended is noted in the run as well, for the task that reports at its end: Kubeflow tells that one nothing but "failed".
    """
    name = package.rpartition(".")[2]
    run_id, started = as_run_id(run or job), time.monotonic()
    settle_in_pod()
    try:
        with graceful():
            whole = effective_config(package, store, config, settings or {})
            import_module(f"{package}.run")
            sources = {field: artifact.path for field, artifact in (inputs or {}).items()}
            outcome = runner(name, package, whole, sources, run_id=run_id)
            opened = whole.store.open()
            note_end(opened, run_id, End(name, outcome.state, outcome.seconds, job))
            _hand_over(outcome, reference, metrics)
            return Finished(outcome, Blobs(opened))
    except BaseException as error:  # noqa: BLE001 - the last stop of everything
        seconds = time.monotonic() - started
        end = End(name, "failed", seconds, job, error_fields(explain(error)))
        _note_failure(package, store, config, run_id, end)
        sys.exit(report_failure(error))


def settle_in_pod() -> None:
    """In a pod of Kubeflow's: let this process be found by who ends it, and find its own pod.

    `components.cluster` looks for the owner of what this pod launches by the pod's name. The host name is not that:
    Kubernetes cuts it after 63 characters, and Argo's names are longer.
    """
    name = os.environ.get("KFP_POD_NAME")
    if name:
        os.environ.setdefault("CONVEYOR_POD", name)
        with suppress(OSError):
            PID_FILE.write_text(f"{os.getpid()}\n")


def effective_config(
    package: str, store: str, config: str, settings: Mapping[str, object] | None = None
) -> RootBase:
    """A form's `config` text, with the fields that are filled in. Raises `InputError`."""
    filled = {"store.url": store, **(settings or {})}
    overrides = [
        Override(key, value, f"parameter {key}") for key, value in filled.items() if value not in ("", 0)
    ]
    return load_config(root_model(known_steps(package)), None, overrides, text=config)


def _hand_over(outcome: Outcome, reference: Artifact, metrics: Metrics | None) -> None:
    value = outcome.output.to_value()
    write_file(Path(reference.path), canonical_json(value))
    reference.metadata.update(
        {"step": outcome.step, "key": outcome.key, "state": outcome.state, "digest": outcome.output.digest()}
    )
    if metrics is not None:
        for figure, number in figures(value).items():
            metrics.log_metric(figure, number)


def _note_failure(package: str, store: str, config: str, run_id: str, end: End) -> None:
    # As well as it goes: what is wrong may be the config, or the store itself.
    with suppress(Exception):
        note_end(open_store(store, good_part(config, known_steps(package)).store), run_id, end)


def good_part(config: str, packages: Mapping[str, str]) -> RootBase:
    """As much of a form's `config` as is good: all of it, else its section `store`, else the defaults.

    For what is left to be written to the store where a mistake in another section has stopped a step.
    """
    model = root_model(packages)
    try:
        return load_config(model, None, (), text=config)
    except InputError:
        with suppress(InputError, yaml.YAMLError, AttributeError):
            section = yaml.safe_load(config).get("store")
            return load_config(model, None, (), text=yaml.safe_dump({"store": section or {}}))
    return model()


def as_run_id(text: str) -> str:
    """Kubeflow's name of a run as one of ours."""
    name = re.sub(r"[^a-z0-9.-]+", "-", text.lower()).strip("-.")[:63]
    return name.strip("-.") or "run"


def figures(value: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """Every number in a reference, by its dotted name, as Kubeflow shows figures (no lists, no NaN)."""
    found: dict[str, float] = {}
    for name, item in value.items():
        if name == "version":
            continue
        if isinstance(item, bool):
            found[prefix + name] = float(item)
        elif isinstance(item, int | float):
            # Through JSON: an infinity must fail here, with its name, and not in Kubeflow's database.
            found[prefix + name] = json.loads(json.dumps(item, allow_nan=False))
        elif isinstance(item, Mapping):
            found |= figures(item, f"{prefix}{name}.")
    return found


def write_page(done: Finished, entry: str, page: Artifact) -> None:
    """One HTML file of the result, as Kubeflow shows it."""
    write_file(Path(page.path), done.entry(entry))


def write_picture(done: Finished, entry: str, page: Artifact) -> None:
    """One PNG file of the result, inside a page of its own."""
    picture = base64.b64encode(done.entry(entry)).decode()
    html = f'<!doctype html><title>{entry}</title><img alt="{entry}" src="data:image/png;base64,{picture}">'
    write_file(Path(page.path), html.encode())


def log_chosen(done: Finished, metrics: Metrics) -> None:
    """Figures of the chosen compressed model."""
    compressed = done.outcome.output
    assert isinstance(compressed, CompressedRef)
    chosen = compressed.chosen_candidate()
    metrics.log_metric("accuracy", chosen.accuracy)
    metrics.log_metric("accuracy_validation", chosen.accuracy_validation)
    metrics.log_metric("size_bytes", chosen.size_bytes)
    latency = (
        done.outcome.measurements.get("latency", {}).get(chosen.name, {}).get("batch_1", {}).get("p50_ms")
    )
    if latency is not None:
        metrics.log_metric("latency_ms", float(latency))


def write_classification(done: Finished, classification: Classification) -> None:
    """Confusion matrix and ROC curve from the evaluation's metrics.json."""
    metrics = json.loads(done.entry("metrics.json"))
    matrix = metrics["confusion_matrix"]
    classification.log_confusion_matrix(metrics["classes"], matrix)
    # scikit-learn's curves begin at an infinite threshold, which is not JSON.
    points = [point for point in zip(*roc_curve(metrics), strict=True) if math.isfinite(point[2])]
    if points:
        false_positive, true_positive, threshold = (list(axis) for axis in zip(*points, strict=True))
        classification.log_roc_curve(false_positive, true_positive, threshold)


def roc_curve(metrics: Mapping[str, Any]) -> tuple[list[float], list[float], list[float]]:
    """False positive rate, true positive rate and threshold of the micro-averaged curve."""
    curve = metrics.get("roc", {})
    return curve.get("fpr", []), curve.get("tpr", []), curve.get("thresholds", [])
