"""The train step as a Kubeflow component."""

from kfp import dsl

from components.common.kubeflow import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def train(
    shards: dsl.Input[dsl.Artifact],
    reference: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
    store: str,
    run: str = "",
    job: str = "",
    model: str = "",
    epochs: int = 0,
    workers: int = 0,
    training_pods: int = 0,
    config: str = "",
) -> None:
    """Train the network; a restarted pod goes on from its newest checkpoint.

    Args:
        shards: Reference to the shards.
        reference: Reference to the model.
        metrics: Accuracy on the validation split, epochs, parameters.
        store: Where results are kept.
        run: Name of the run; empty takes `job`.
        job: Kubeflow's name of the run.
        model: The network; empty chooses by the images.
        epochs: Passes over the training images; 0 chooses by the data.
        workers: Training processes in this pod; 0 keeps the config's.
        training_pods: Pods that train together, launched from this one; 0 keeps the config's.
        config: The whole config file, as YAML.
    """
    from components.common.kubeflow import run_component
    from components.train.kubeflow import run_train

    settings = {
        "train.model": model,
        "train.epochs": epochs,
        "train.workers": workers,
        "kubernetes.training.pods": training_pods,
    }
    inputs = {"shards": shards}
    run_component(
        "components.train",
        run,
        store,
        config,
        settings,
        inputs=inputs,
        job=job,
        reference=reference,
        metrics=metrics,
        runner=run_train,
    )
