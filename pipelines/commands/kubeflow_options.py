"""Options of the commands that speak to a Kubeflow server, and what they make of them. Imports nothing heavy."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from components.cluster.config import KubernetesConfig
from pipelines.commands.options import Session, config_options
from pipelines.config import read_config

if TYPE_CHECKING:
    from pipelines.kubeflow.server import Server

CommandT = TypeVar("CommandT", bound=Callable[..., Any])


def server_options(function: CommandT) -> CommandT:
    """Where the server is, and how it knows us. A token never stands on the command line, which others can read."""
    for option in reversed(
        (
            click.option(
                "--host",
                metavar="URL",
                help="The Kubeflow Pipelines server [KF_PIPELINES_ENDPOINT, else through the kubeconfig].",
            ),
            click.option("--namespace", metavar="NAME", help="Yours, on a server with several users."),
            click.option(
                "--token-file",
                type=click.Path(path_type=Path),
                help="Holds the bearer token [KF_PIPELINES_TOKEN, or the file KF_PIPELINES_SA_TOKEN_PATH].",
            ),
            click.option(
                "--ca-file", type=click.Path(path_type=Path), help="Certificates to check the server's with."
            ),
        )
    ):
        function = option(function)
    return function


def pipeline_options(function: CommandT) -> CommandT:
    """What runs: settings, parameters, image, and under which names."""
    for option in reversed(
        (
            config_options,
            click.option(
                "--param",
                "parameters",
                multiple=True,
                metavar="NAME=VALUE",
                help="A parameter of the pipeline's form, such as training_pods=2. Again for more.",
            ),
            click.option("--image", metavar="IMAGE", help="The image of every step [kubernetes.image]."),
            click.option(
                "--pipeline", default="conveyor", show_default=True, help="The pipeline's name on the server."
            ),
            click.option(
                "--experiment",
                default="conveyor",
                show_default=True,
                help="The experiment that runs are filed under; made if there is none.",
            ),
            click.option(
                "--service-account", metavar="NAME", help="Of the run's pods [the server's default]."
            ),
        )
    ):
        function = option(function)
    return function


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to run."""

    values: dict[str, str | int]
    """Of the form."""
    kubernetes: KubernetesConfig


def wanted(
    session: Session,
    file: Path | None,
    settings: Sequence[str],
    parameters: Sequence[str],
    image: str | None,
    shortcuts: dict[str, Any],
) -> Wanted:
    """The settings, checked as `conveyor run` checks them, as values of the form. Raises `InputError`."""
    from pipelines.kubeflow.form import check_values, form_values, parse_parameters

    given = parse_parameters(parameters)
    # The size of the train task's pod depends on it, so it has to be known before the upload.
    pods = given.pop("training_pods", None)
    if pods:
        settings = (*settings, f"kubernetes.training.pods={pods}")
    config = read_config(session.graph, file, settings, shortcuts)
    values = form_values(config) | given
    check_values(values)
    kubernetes = config.kubernetes
    if image is not None:
        kubernetes = kubernetes.model_copy(update={"image": image})
    return Wanted(values, kubernetes)


def doubts(kubernetes: KubernetesConfig) -> list[str]:
    """What may go wrong with these settings in Kubeflow, for warnings."""
    from pipelines.kubeflow.task import not_settable

    found = [
        f"Kubeflow cannot set kubernetes.{name} on a step's pod; left out"
        for name in not_settable(kubernetes)
    ]
    if kubernetes.image == KubernetesConfig().image:
        found.append(
            f"the image is {kubernetes.image}, which pods find only where it was loaded onto every node; "
            "--image names one in a registry"
        )
    return found


def connect(
    host: str | None, namespace: str | None, token_file: Path | None, ca_file: Path | None
) -> "Server":
    """The server. Raises `InputError` or `StepError` where it cannot be spoken to."""
    from pipelines.kubeflow.server import Address, Server

    return Server(Address(host, namespace, token_file, ca_file))
