"""`conveyor compile`: the pipeline as Kubeflow YAML."""

from pathlib import Path

import click

from components.common.errors import InputError
from pipelines.commands.kubeflow_options import doubts
from pipelines.commands.options import Session, config_options
from pipelines.config import read_config


@click.command("compile")
@config_options
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    default=Path("conveyor.yaml"),
    show_default=True,
    help="The file.",
)
@click.option(
    "--format",
    "kind",
    type=click.Choice(["ir", "manifest"]),
    default="ir",
    show_default=True,
    help="ir: to upload to a server; manifest: Pipeline and PipelineVersion, to kubectl apply.",
)
@click.option("--image", metavar="IMAGE", help="The container image of every step [kubernetes.image].")
@click.option("--namespace", help="Namespace of the objects, with --format manifest.")
@click.pass_obj
def compile_(
    session: Session,
    /,
    file: Path | None,
    settings: tuple[str, ...],
    output: Path,
    kind: str,
    image: str | None,
    namespace: str | None,
    **shortcuts: str | int | None,
) -> None:
    """Write the pipeline in Kubeflow's format (IR YAML), ready to upload to a Kubeflow Pipelines server (2.16 or newer).

    What a config file and the other options set becomes what the form is filled in with; its section `kubernetes` (image,
    resources, node selector, tolerations…) becomes part of the pipeline.
    """
    if output.suffix not in {".yaml", ".yml"}:
        raise InputError("the file must be called .yaml or .yml", where=f"-o {output}")
    config = read_config(session.graph, file, settings, shortcuts)
    from pipelines.kubeflow.files import write_manifest, write_yaml
    from pipelines.kubeflow.form import form_values

    kubernetes = config.kubernetes if image is None else config.kubernetes.model_copy(update={"image": image})
    for doubt in doubts(kubernetes):
        click.echo(f"warning: {doubt}", err=True)
    defaults = form_values(config)
    if kind == "manifest":
        write_manifest(
            session.graph,
            output,
            kubernetes=kubernetes,
            defaults=defaults,
            namespace=namespace,
        )
    else:
        write_yaml(session.graph, output, kubernetes=kubernetes, defaults=defaults)
    click.echo(str(output))
