"""Options that several subcommands share."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from pipelines.graph import Graph


@dataclass(frozen=True, slots=True)
class Session:
    """What every subcommand gets from `conveyor` (click's `obj`)."""

    graph: Graph
    arguments: tuple[str, ...]
    """The command line as it was typed."""
    debug: bool


CommandT = TypeVar("CommandT", bound=Callable[..., Any])


def config_options(function: CommandT) -> CommandT:
    """-f, --set and the short options for the settings that people change most."""
    for option in reversed(
        (
            click.option("-f", "--file", type=click.Path(path_type=Path), help="A config file (YAML)."),
            click.option(
                "--source", metavar="DIR", help="The images: folder, list, archive or s3:// prefix."
            ),
            click.option("--model", metavar="NAME", help="The network, such as lenet or resnet18."),
            click.option("--epochs", type=click.IntRange(min=1), help="Passes over the training images."),
            click.option(
                "--image-size", type=click.IntRange(min=1), help="Side in pixels that the network sees."
            ),
            click.option("--workers", type=click.IntRange(min=1), help="Training processes on this machine."),
            store_option,
            click.option(
                "--set",
                "settings",
                multiple=True,
                metavar="KEY=VALUE",
                help="Any setting, such as train.epochs=3. Again for more.",
            ),
        )
    ):
        function = option(function)
    return function


store_option = click.option(
    "--store", metavar="URL", help="Where results are kept: a folder or s3://bucket/prefix [.conveyor/store]."
)
