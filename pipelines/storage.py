"""`conveyor store init`: the bucket of a new cluster."""

import time
from pathlib import Path

import click

from components.common.errors import StoreError
from components.common.store import Store
from pipelines.commands.options import Session, store_option
from pipelines.config import read_config

PAUSE_S = 2.0


@click.group(name="store")
def command() -> None:
    """Set up the place where results are kept."""


@command.command()
@click.option("-f", "--file", type=click.Path(path_type=Path), help="A config file (YAML), for its store.")
@store_option
@click.option(
    "--wait",
    "wait_s",
    metavar="SECONDS",
    type=click.FloatRange(min=0),
    default=0.0,
    help="How long a server that does not answer yet is waited for [0].",
)
@click.pass_obj
def init(session: Session, file: Path | None, store: str | None, wait_s: float) -> None:
    """Make the store's bucket where there is none, and check that the store keeps what it must promise."""
    from components.common.store.bucket import make_bucket

    opened = read_config(session.graph, file, (), {"store": store}).store.open()
    deadline = time.monotonic() + wait_s
    while True:
        try:
            made = make_bucket(opened)
            break
        except StoreError as error:
            if time.monotonic() >= deadline:
                raise
            click.echo(f"waiting for the store: {error.found or error.what}", err=True)
        time.sleep(PAUSE_S)
    opened.check()
    click.echo(_said(opened, made))


def _said(store: Store, made: bool) -> str:
    return f"{store.url}: {'made' if made else 'was there'}; readable, writable, conditional writes hold"
