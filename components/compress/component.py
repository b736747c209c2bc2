"""The compress step as a Kubeflow component."""

from kfp import dsl

from components.common.kubeflow import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def compress(
    model: dsl.Input[dsl.Artifact],
    shards: dsl.Input[dsl.Artifact],
    reference: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
    store: str,
    run: str = "",
    job: str = "",
    config: str = "",
) -> None:
    """Prune, quantize and export the model; measure every candidate and choose one.

    Args:
        model: Reference to the model.
        shards: Reference to the shards.
        reference: Reference to the candidates and the chosen one.
        metrics: Accuracy, size and latency of the chosen candidate.
        store: Where results are kept.
        run: Name of the run; empty takes `job`.
        job: Kubeflow's name of the run.
        config: The whole config file, as YAML.
    """
    from components.common.kubeflow import log_chosen, run_component

    inputs = {"model": model, "shards": shards}
    done = run_component(
        "components.compress", run, store, config, inputs=inputs, job=job, reference=reference
    )
    log_chosen(done, metrics)
