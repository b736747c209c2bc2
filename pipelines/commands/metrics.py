"""`conveyor metrics`: serve the state of a store to Prometheus."""

import signal
import threading
from pathlib import Path
from types import FrameType

import click

from components.common.progress import make_reporter
from pipelines.commands.options import Session, store_option
from pipelines.config import read_config

DEFAULT_PORT = 9464


@click.command()
@store_option
@click.option("-f", "--file", type=click.Path(path_type=Path), help="A config file (YAML), for its store.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=DEFAULT_PORT, show_default=True, help="TCP port."
)
@click.option(
    "--address",
    default="0.0.0.0",  # noqa: S104 - in a pod it is asked from elsewhere; the figures are no secret
    show_default=True,
    help="Interface to listen on; 127.0.0.1 for this machine only.",
)
@click.option(
    "--refresh",
    type=click.FloatRange(min=0.1),
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="Between two looks at the store.",
)
@click.option("--once", is_flag=True, help="Print the metrics and end, instead of serving them.")
@click.option("--quiet", is_flag=True, help="Only warnings and errors.")
@click.pass_obj
def metrics(
    session: Session,
    store: str | None,
    file: Path | None,
    port: int,
    address: str,
    refresh: float,
    once: bool,
    quiet: bool,
) -> None:
    """Serve /metrics (Prometheus) and /healthz for a store: its runs, models and retrainings.

    Reads the store in the background and writes nothing to it. Ends with status 0 on SIGTERM and Ctrl-C.
    """
    from prometheus_client import generate_latest

    from pipelines.exporter.facts import Looker
    from pipelines.exporter.server import make_server
    from pipelines.exporter.watch import Watch

    opened = read_config(session.graph, file, (), {"store": store}).store.open()
    reporter = make_reporter(quiet=quiet)
    watch = Watch(Looker(opened), reporter, refresh_s=refresh)
    if once:
        watch.look()
        click.echo(generate_latest(watch).decode(), nl=False)
        return
    server = make_server(watch, address, port)
    ended = threading.Event()

    def end(_number: int, _frame: FrameType | None) -> None:
        ended.set()

    # To be stopped is how a server's work ends well, so not by the interruption that other commands take it for.
    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        watch.start()
        thread = threading.Thread(target=server.serve_forever, name="http", daemon=True)
        thread.start()
        host = f"[{address}]" if ":" in address else address
        reporter.info(f"metrics of {opened.url} on http://{host}:{server.server_address[1]}/metrics")
        ended.wait()
        watch.stop()
        server.shutdown()
        thread.join(5)
    finally:
        server.server_close()
        for number, handler in before.items():
            signal.signal(number, handler)
