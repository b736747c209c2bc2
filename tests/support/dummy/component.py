"""The dummy step as a Kubeflow component."""

from kfp import dsl

from components.common.kubeflow import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def dummy(
    snapshot: dsl.Input[dsl.Artifact],
    reference: dsl.Output[dsl.Artifact],
    store: str,
    run: str = "",
    job: str = "",
    config: str = "",
) -> None:
    """Say hello.

    Args:
        snapshot: Reference to the images.
        reference: Reference to the words.
        store: Where results are kept.
        run: Name of the run; empty takes `job`.
        job: Kubeflow's name of the run.
        config: The whole config file, as YAML.
    """
    from components.common.kubeflow import run_component

    run_component(
        "support.dummy", run, store, config, inputs={"snapshot": snapshot}, job=job, reference=reference
    )
