"""`conveyor manifests`: write manifests/, or check that it is what this version would write."""

from pathlib import Path

import click

from components.cluster.config import KubernetesConfig
from components.common.errors import InputError
from pipelines.commands.options import Session
from pipelines.config import read_config
from pipelines.graph import Graph
from pipelines.manifests.names import KUSTOMIZATION, NAMES, names_file, overlays
from pipelines.manifests.tree import generated, started

PODS = 2
"""Training is distributed where nobody said otherwise."""


@click.command("manifests")
@click.argument("folder", metavar="[DIR]", type=click.Path(path_type=Path), default=Path("manifests"))
@click.option(
    "-f", "--file", type=click.Path(path_type=Path), help="A config file, for its section kubernetes."
)
@click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="One setting (kubernetes.retries=1)."
)
@click.option("--image", metavar="IMAGE", help="The container image of every step.")
@click.option("--check", is_flag=True, help="Write nothing; fail where a file is not what would be written.")
@click.pass_obj
def command(
    session: Session,
    folder: Path,
    file: Path | None,
    settings: tuple[str, ...],
    image: str | None,
    check: bool,
) -> None:
    """Write the steps as plain manifests, for kubectl apply -k DIR/overlays/NAME.

    Overlays that are there already keep their kustomization and settings; the names of their Jobs are renewed. Where DIR
    is a single overlay (wherever it lies), only these names are.
    """
    chosen = kubernetes_settings(session.graph, file, settings, image)
    if (folder / KUSTOMIZATION).is_file():
        if not overlays(folder):
            raise InputError(
                "this kustomization has no names to renew",
                where=str(folder / KUSTOMIZATION),
                todo=f"add   transformers: [{NAMES}]   if it applies Jobs, or name a folder above it",
            )
    elif check:
        refuse_outdated(folder, generated(session.graph, chosen))
    else:
        write_tree(session.graph, chosen, folder)
    for overlay in overlays(folder):
        if check:
            refuse_outdated(overlay, {NAMES: names_file(overlay)})
        else:
            write(overlay / NAMES, names_file(overlay))
        click.echo(str(overlay))


def kubernetes_settings(
    graph: Graph, file: Path | None, settings: tuple[str, ...], image: str | None
) -> KubernetesConfig:
    """The section `kubernetes`, with two training pods where it does not say how many."""
    found = read_config(graph, file, settings).kubernetes
    update: dict[str, object] = {}
    if image is not None:
        update["image"] = image
    if "pods" not in found.training.model_fields_set:
        update["training"] = found.training.model_copy(update={"pods": PODS})
    return found.model_copy(update=update)


def write_tree(graph: Graph, settings: KubernetesConfig, folder: Path) -> None:
    """Everything but the digests in names; what belongs to the user only where it is missing."""
    for name, text in generated(graph, settings).items():
        write(folder / name, text)
    for name, text in started(settings).items():
        if not (folder / name).exists():
            write(folder / name, text)


def write(path: Path, text: str) -> None:
    if path.is_file() and path.read_text() == text:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def refuse_outdated(folder: Path, files: dict[str, str]) -> None:
    """Raises `InputError` that names the files which are not what they should be."""
    wrong = [
        str(folder / name)
        for name, text in files.items()
        if not (folder / name).is_file() or (folder / name).read_text() != text
    ]
    if wrong:
        raise InputError(
            "manifests are not current",
            found=", ".join(wrong[:5]) + (f" and {len(wrong) - 5} more" if len(wrong) > 5 else ""),
            todo=f"conveyor manifests {folder}   writes them anew (with the same options as before)",
        )
