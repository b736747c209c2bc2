"""`conveyor config`: the effective settings, or their JSON Schema."""

from pathlib import Path

import click

from pipelines.commands.options import Session, config_options
from pipelines.config import read_config, to_schema, to_yaml


@click.command()
@config_options
@click.option("--schema", is_flag=True, help="The JSON Schema of a config file instead.")
@click.pass_obj
def config(
    session: Session,
    /,
    file: Path | None,
    settings: tuple[str, ...],
    schema: bool,
    **shortcuts: str | int | None,
) -> None:
    """Print every setting with the value it has, as a config file.

    null means: chosen from the data when the step runs.
    """
    if schema:
        click.echo(to_schema(session.graph))
        return
    click.echo(to_yaml(read_config(session.graph, file, settings, shortcuts)), nl=False)
