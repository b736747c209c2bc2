"""The table of steps as a Kubeflow pipeline: compiled, run locally, submitted and scheduled."""

from pipelines.kubeflow.files import write_manifest, write_yaml
from pipelines.kubeflow.form import form_values
from pipelines.kubeflow.pipeline import make_pipeline

__all__ = ["form_values", "make_pipeline", "write_manifest", "write_yaml"]
