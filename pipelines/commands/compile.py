"""`conveyor compile`: the pipeline as Kubeflow YAML."""

from pathlib import Path

import click

from components.common.errors import InputError
from pipelines.commands.options import Session


@click.command("compile")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    default=Path("conveyor.yaml"),
    show_default=True,
    help="The file.",
)
@click.option("--image", metavar="IMAGE", help="The container image of every step.")
@click.pass_obj
def compile_(session: Session, output: Path, image: str | None) -> None:
    """Write the pipeline in Kubeflow's format (IR YAML), ready to upload to a Kubeflow Pipelines server."""
    if output.suffix not in {".yaml", ".yml"}:
        raise InputError("the file must be called .yaml or .yml", where=f"-o {output}")
    from pipelines.kubeflow import write_yaml

    write_yaml(session.graph, output, image=image)
    click.echo(str(output))
