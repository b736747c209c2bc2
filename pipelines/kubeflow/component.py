"""The task that ends a Kubeflow run: its report, whatever became of it."""

from kfp import dsl

from components.common.kubeflow import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def report(
    status: dsl.PipelineTaskFinalStatus,
    metrics: dsl.Output[dsl.Metrics],
    page: dsl.Output[dsl.HTML],
    store: str,
    run: str = "",
    job: str = "",
    steps: str = "",
    training_pods: int = 0,
    config: str = "",
) -> None:
    """Write the run's result and report, and tell who wants to know how it ended.

    Args:
        status: How the steps ended.
        metrics: The run's figures, and whether the model was promoted.
        page: The whole run as one page.
        store: Where results are kept.
        run: Name of the run; empty takes `job`.
        job: Kubeflow's name of the run.
        steps: Name and package of each step, as name=package,…
        training_pods: Pods that train together, as the step `train` was told; 0 keeps the config's.
        config: The whole config file, as YAML.
    """
    from pipelines.kubeflow.ending import end_run

    end_run(
        status.state,
        run,
        store,
        config,
        job=job,
        steps=steps,
        training_pods=training_pods,
        metrics=metrics,
        page=page,
    )
