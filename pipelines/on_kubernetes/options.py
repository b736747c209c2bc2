"""Options of the commands that can do their work in a cluster."""

import os
from collections.abc import Callable
from typing import Any, TypeVar

import click

LAUNCHER = "CONVEYOR_LAUNCHER"

CommandT = TypeVar("CommandT", bound=Callable[..., Any])


def cluster_options(function: CommandT) -> CommandT:
    """--on, and what belongs to it."""
    for option in reversed(
        (
            click.option(
                "--on",
                "place",
                type=click.Choice(["here", "kubernetes"]),
                default="here",
                show_default=True,
                help="Where the steps work: on this machine, or as pods of the current kubectl context.",
            ),
            click.option("--context", metavar="NAME", help="The kubeconfig's context, with --on kubernetes."),
            click.option("--namespace", metavar="NAME", help="The namespace, with --on kubernetes."),
            click.option("--image", metavar="IMAGE", help="The image of all pods, with --on kubernetes."),
            click.option(
                "--detach", is_flag=True, help="With --on kubernetes: start the run and do not wait for it."
            ),
        )
    ):
        function = option(function)
    return function


def is_launcher() -> bool:
    """Whether this process is the one that launches: in a pod of a launcher's Job, by hand or by a schedule."""
    return os.environ.get(LAUNCHER) == "1"
