"""The promote step as a Kubeflow component."""

from kfp import dsl

from components.common.kubeflow import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def promote(
    compressed: dsl.Input[dsl.Artifact],
    evaluation: dsl.Input[dsl.Artifact],
    snapshot: dsl.Input[dsl.Artifact],
    shards: dsl.Input[dsl.Artifact],
    model: dsl.Input[dsl.Artifact],
    reference: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
    store: str,
    run: str = "",
    job: str = "",
    config: str = "",
) -> None:
    """Compare the chosen model with the champion, and promote it where it passes every gate.

    Args:
        compressed: Reference to the candidates and the chosen one.
        evaluation: Reference to the evaluation of the uncompressed model.
        snapshot: Reference to the snapshot, for the lineage.
        shards: Reference to the shards, whose test split decides.
        model: Reference to the uncompressed model, for the lineage.
        reference: Reference to the decision.
        metrics: Whether it was promoted, its version, and each gate (1 passed, 0 refused).
        store: Where results are kept.
        run: Name of the run; empty takes `job`.
        job: Kubeflow's name of the run.
        config: The whole config file, as YAML.
    """
    from components.common.kubeflow import run_component

    inputs = {
        "compressed": compressed,
        "evaluation": evaluation,
        "snapshot": snapshot,
        "shards": shards,
        "model": model,
    }
    run_component(
        "components.promote", run, store, config, inputs=inputs, job=job, reference=reference, metrics=metrics
    )
