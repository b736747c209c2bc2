"""The evaluate step as a Kubeflow component."""

from kfp import dsl

from components.common.kubeflow import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def evaluate(
    model: dsl.Input[dsl.Artifact],
    shards: dsl.Input[dsl.Artifact],
    reference: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
    classification: dsl.Output[dsl.ClassificationMetrics],
    report: dsl.Output[dsl.HTML],
    store: str,
    run: str = "",
    job: str = "",
    config: str = "",
) -> None:
    """Measure the model on the test split.

    Args:
        model: Reference to the model.
        shards: Reference to the shards.
        reference: Reference to the evaluation.
        metrics: Accuracy with its interval, F1, AUC, calibration.
        classification: Confusion matrix and ROC curve.
        report: The whole evaluation as one page.
        store: Where results are kept.
        run: Name of the run; empty takes `job`.
        job: Kubeflow's name of the run.
        config: The whole config file, as YAML.
    """
    from components.common.kubeflow import run_component, write_classification, write_page

    inputs = {"model": model, "shards": shards}
    done = run_component(
        "components.evaluate",
        run,
        store,
        config,
        inputs=inputs,
        job=job,
        reference=reference,
        metrics=metrics,
    )
    write_classification(done, classification)
    write_page(done, "report.html", report)
