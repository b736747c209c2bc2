"""The ingest step as a Kubeflow component."""

from kfp import dsl

from components.common.kubeflow import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def ingest(
    reference: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
    store: str,
    run: str = "",
    job: str = "",
    source: str = "",
    config: str = "",
) -> None:
    """Check, deduplicate and split the images.

    Args:
        reference: Reference to the snapshot.
        metrics: How many images were accepted and quarantined, and why.
        store: Where results are kept.
        run: Name of the run; empty takes `job`.
        job: Kubeflow's name of the run.
        source: The images; empty keeps the config's.
        config: The whole config file, as YAML.
    """
    from components.common.kubeflow import run_component

    settings = {"ingest.source": source}
    run_component(
        "components.ingest", run, store, config, settings, job=job, reference=reference, metrics=metrics
    )
