"""Names and labels: what `kubectl get jobs,pods` shows must explain itself."""

import hashlib
import re
from collections.abc import Mapping

PREFIX = "conveyor"
CONTAINER = "conveyor"
CONFIG_FILE = "config.yaml"
CONFIG_FOLDER = "/etc/conveyor"
CONFIG_VOLUME = "config"

RUN = "conveyor/run"
STEP = "conveyor/step"
KEY = "conveyor/key"
"""Annotation: the whole key of the record that a Job is to publish."""
TEMPLATE = "conveyor/template"
"""Annotation: digest of how a Job runs (image, resources, placement), not of what it computes."""
QUEUE = "kueue.x-k8s.io/queue-name"
ISTIO = "sidecar.istio.io/inject"
COMPONENT = "app.kubernetes.io/component"

NAME_LENGTH = 63  # a Job's name becomes a label of its pods
KEY_LENGTH = 12


def fit(text: str, *, limit: int = NAME_LENGTH) -> str:
    """`text` as a DNS label; where that changes or shortens it, a digest keeps two names apart."""
    name = re.sub(r"[^a-z0-9-]+", "-", text.lower()).strip("-")
    if name == text and len(name) <= limit:
        return name
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    return f"{name[: limit - 9].rstrip('-')}-{digest}"


def job_name(step: str, key: str) -> str:
    """`conveyor-train-3f0c92ab51de`: the same work has the same name, whoever launches it."""
    return fit(f"{PREFIX}-{step.replace('_', '-')}-{key[:KEY_LENGTH]}")


def service_name(job: str) -> str:
    """The Service through which a training Job's pods find each other. Not the Job's own name: for an MPIJob of the same
    key the MPI operator makes a Service of that name."""
    return fit(f"{job}-pods")


def run_name(run: str) -> str:
    """The launcher's Job of a run."""
    return fit(f"{PREFIX}-run-{run}")


def config_name(content: str) -> str:
    """ConfigMap of a config file, by its content: it never changes, and equal ones are one."""
    return f"{PREFIX}-config-{hashlib.sha256(content.encode()).hexdigest()[:KEY_LENGTH]}"


def labels(
    component: str,
    *,
    run: str | None = None,
    step: str | None = None,
    more: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Labels of an object: `component` is a step's name, `launcher`, `storage`… Ours win over `more`."""
    found = {
        **(more or {}),
        "app.kubernetes.io/name": PREFIX,
        COMPONENT: component,
        "app.kubernetes.io/part-of": PREFIX,
    }
    if run is not None:
        found[RUN] = run
    if step is not None:
        found[STEP] = step
    return found
