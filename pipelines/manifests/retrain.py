"""Scheduled retraining without Kubeflow: a CronJob whose pod launches the steps, each as a Job of its own."""

from components.cluster.config import KubernetesConfig
from components.cluster.jobs import CONFIG, launcher_job, metadata
from components.cluster.names import RUN
from components.cluster.pods import Object
from pipelines.graph import Graph
from pipelines.manifests.steps import CONFIG_MAP, PULLED_ONCE

NAME = "conveyor-retrain"
IMAGE = "CONVEYOR_IMAGE"
"""The steps run from the same image; an overlay's kustomization copies what it makes of the name to here."""
SCHEDULE = "0 3 * * *"
TIME_ZONE = "Etc/UTC"
LATE_S = 3600
"""A tick that could not start within this time is left out."""


def cron_job(graph: Graph, settings: KubernetesConfig) -> Object:
    """One at a time, at night; what has not changed ends in seconds.

    A tick that hangs would keep all later ones out, so it ends when all of its steps could have used up their deadlines.
    What it had started runs on, and the next tick adopts it.
    """
    job = launcher_job(
        NAME,
        "",
        settings,
        config_map=CONFIG_MAP,
        command_args=["retrain", "--on", "kubernetes", "-f", CONFIG, "--image", f"$({IMAGE})", "--json"],
        env={IMAGE: settings.image},
    )
    job["spec"].pop("ttlSecondsAfterFinished", None)  # the history limits decide
    if settings.deadline_s is not None:
        job["spec"]["activeDeadlineSeconds"] = len(graph.names()) * settings.deadline_s
    template = job["spec"]["template"]
    for marks in (job["metadata"]["labels"], template["metadata"]["labels"]):
        marks.pop(RUN)  # each tick's run has a name of its own
    own = {key: job["metadata"][key] for key in ("labels", "annotations") if key in job["metadata"]}
    return {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": metadata(NAME, job["metadata"]["labels"], annotations=PULLED_ONCE),
        "spec": {
            "schedule": SCHEDULE,
            "timeZone": TIME_ZONE,
            "concurrencyPolicy": "Forbid",
            "startingDeadlineSeconds": LATE_S,
            "successfulJobsHistoryLimit": 3,
            "failedJobsHistoryLimit": 3,
            "jobTemplate": {"metadata": own, "spec": job["spec"]},
        },
    }
