"""The pipeline as files: Kubeflow's intermediate representation, or Kubernetes objects."""

import hashlib
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from kfp import compiler
from kfp.compiler.compiler_utils import KubernetesManifestOptions

from components.cluster.config import KubernetesConfig
from pipelines.graph import Graph
from pipelines.kubeflow.form import Value
from pipelines.kubeflow.pipeline import PIPELINE_NAME, make_pipeline

DIGITS = 12


def write_yaml(
    graph: Graph,
    path: Path,
    *,
    image: str | None = None,
    kubernetes: KubernetesConfig | None = None,
    defaults: Mapping[str, Value] | None = None,
) -> None:
    """Compile to Kubeflow's intermediate representation (two documents: the pipeline, and how its pods run)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pipeline = make_pipeline(graph, image=image, kubernetes=kubernetes, defaults=defaults)
    with _quiet():
        compiler.Compiler().compile(pipeline, package_path=str(path))


def write_manifest(
    graph: Graph,
    path: Path,
    *,
    image: str | None = None,
    kubernetes: KubernetesConfig | None = None,
    defaults: Mapping[str, Value] | None = None,
    namespace: str | None = None,
) -> None:
    """Compile to a Pipeline and a PipelineVersion (pipelines.kubeflow.org/v2beta1), for `kubectl apply`.

    The version is named by its content: applying the same again changes nothing, and another one stands beside it.
    """
    write_yaml(graph, path, image=image, kubernetes=kubernetes, defaults=defaults)
    options = KubernetesManifestOptions(
        pipeline_name=PIPELINE_NAME,
        pipeline_version_name=version_name(path.read_bytes()),
        namespace=namespace,
        include_pipeline_manifest=True,
    )
    pipeline = make_pipeline(graph, image=image, kubernetes=kubernetes, defaults=defaults)
    with _quiet():
        compiler.Compiler().compile(
            pipeline,
            package_path=str(path),
            kubernetes_manifest_options=options,
            kubernetes_manifest_format=True,
        )


def version_name(compiled: bytes) -> str:
    """`conveyor-3f0c92ab51de`: a version's name, from the compiled pipeline."""
    return f"{PIPELINE_NAME}-{hashlib.sha256(compiled).hexdigest()[:DIGITS]}"


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # kfp wonders at every compilation whether the image has kfp inside
        yield
