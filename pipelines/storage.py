"""`conveyor store`: the bucket of a new cluster, and whether a store is there and right."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click

from components.common.errors import StoreError
from components.common.store import Store
from pipelines.commands.options import Session, store_option
from pipelines.config import read_config

PAUSE_S = 2.0
T = TypeVar("T")


@click.group(name="store")
def command() -> None:
    """Set up the place where results are kept."""


file_option = click.option(
    "-f", "--file", type=click.Path(path_type=Path), help="A config file (YAML), for its store."
)
wait_option = click.option(
    "--wait",
    "wait_s",
    metavar="SECONDS",
    type=click.FloatRange(min=0),
    default=0.0,
    help="How long a server that does not answer yet is waited for [0].",
)


@command.command()
@file_option
@store_option
@wait_option
@click.pass_obj
def init(session: Session, file: Path | None, store: str | None, wait_s: float) -> None:
    """Make the store's bucket where there is none, and check that the store keeps what it must promise."""
    from components.common.store.bucket import make_bucket

    opened = read_config(session.graph, file, (), {"store": store}).store.open()
    made = _answer(lambda: make_bucket(opened), wait_s)
    opened.check()
    click.echo(_said(opened, "made" if made else "was there"))


@command.command()
@file_option
@store_option
@wait_option
@click.pass_obj
def check(session: Session, file: Path | None, store: str | None, wait_s: float) -> None:
    """Check that the store is there, takes the credentials, and keeps what it must promise; make nothing."""
    opened = read_config(session.graph, file, (), {"store": store}).store.open()
    _answer(opened.check, wait_s)
    click.echo(_said(opened, "is there"))


def _answer(ask: Callable[[], T], wait_s: float) -> T:
    """What the server says, once there is one. Raises what `ask` raises, `StoreError` only after `wait_s` seconds."""
    deadline = time.monotonic() + wait_s
    while True:
        try:
            return ask()
        except StoreError as error:
            if time.monotonic() >= deadline:
                raise
            click.echo(f"waiting for the store: {error.found or error.what}", err=True)
        time.sleep(PAUSE_S)


def _said(store: Store, how: str) -> str:
    return f"{store.url}: {how}; readable, writable, conditional writes hold"
