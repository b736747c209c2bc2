"""The preprocess step as a Kubeflow component."""

from kfp import dsl

from components.common.kubeflow import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def preprocess(
    snapshot: dsl.Input[dsl.Artifact],
    reference: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
    contact_sheet: dsl.Output[dsl.HTML],
    store: str,
    run: str = "",
    job: str = "",
    image_size: int = 0,
    config: str = "",
) -> None:
    """Decode, resize and pack the images into shards.

    Args:
        snapshot: Reference to the snapshot.
        reference: Reference to the shards.
        metrics: Sizes and counts of the shards.
        contact_sheet: Some images of each class, as the network will see them.
        store: Where results are kept.
        run: Name of the run; empty takes `job`.
        job: Kubeflow's name of the run.
        image_size: Side in pixels of the square that the network sees; 0 chooses by the data.
        config: The whole config file, as YAML.
    """
    from components.common.kubeflow import run_component, write_picture

    settings = {"preprocess.image_size": image_size}
    inputs = {"snapshot": snapshot}
    done = run_component(
        "components.preprocess",
        run,
        store,
        config,
        settings,
        inputs=inputs,
        job=job,
        reference=reference,
        metrics=metrics,
    )
    write_picture(done, "contact_sheet.png", contact_sheet)
