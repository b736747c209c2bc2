"""The click application: subcommands by name, imported when used; the one place where errors become exit statuses."""

import os
import select
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import click

from components.common.failures import explain, graceful, report_failure
from pipelines.commands.options import Session
from pipelines.graph import GRAPH, Graph

# name → (module:command, what `conveyor --help` says without importing it)
COMMANDS = {
    "run": (
        "pipelines.commands.run:run",
        "Run the whole pipeline on this machine; a rerun goes on where it stopped.",
    ),
    "retrain": (
        "pipelines.commands.retrain:retrain",
        "Train again from the newest data where something changed, and promote only what wins.",
    ),
    "step": ("pipelines.commands.step:step", "Run one step, as its container does."),
    "config": ("pipelines.commands.config:config", "Print the effective settings, or their JSON Schema."),
    "predict": ("pipelines.predict:command", "Label new images with a promoted model."),
    "models": ("pipelines.models:command", "List, show, promote and roll back models."),
    "runs": ("pipelines.commands.runs:runs", "List what ran."),
    "report": ("pipelines.commands.runs:report", "Show where a run's report is, or write it to a file."),
    "metrics": (
        "pipelines.commands.metrics:metrics",
        "Serve runs, models and retrainings of a store to Prometheus.",
    ),
    "compile": ("pipelines.commands.compile:compile_", "Write the pipeline as Kubeflow YAML."),
    "manifests": ("pipelines.manifests.command:command", "Write the steps as plain Kubernetes manifests."),
    "submit": (
        "pipelines.commands.submit:submit",
        "Run the pipeline on a Kubeflow server, and follow it.",
    ),
    "schedule": (
        "pipelines.commands.schedule:schedule",
        "Run it there again and again: create, list, pause, resume, remove.",
    ),
    "example": ("pipelines.example:command", "Write an example data set."),
    "store": (
        "pipelines.storage:command",
        "Make the store's bucket, or ask whether a store is there and right.",
    ),
    "gc": ("pipelines.gc:command", "Remove from the store what nothing refers to (a dry run by default)."),
    "verify": (
        "pipelines.verify:command",
        "Read everything in the store that is referred to, and check its digests.",
    ),
    "doctor": (
        "pipelines.doctor.command:command",
        "Say what this machine can and cannot do, and how to mend it.",
    ),
}


class ReaderGoneError(Exception):
    """Whoever read stdout (head, less) has closed it."""


class LazyGroup(click.Group):
    """Imports a subcommand's module only when that subcommand is called: `conveyor --help` stays quick."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for name, (target, _) in COMMANDS.items() if _exists(target)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS or not _exists(COMMANDS[cmd_name][0]):
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            # Caught before click sees it, which would end with status 1 without a word.
            raise (ReaderGoneError() if _reader_is_gone() else explain(error)) from error

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            import difflib

            near = difflib.get_close_matches(args[0], self.list_commands(ctx), n=1) if args else []
            if near:
                raise click.UsageError(f"{error.message} Did you mean '{near[0]}'?", ctx) from None
            raise

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name][1]) for name in self.list_commands(ctx)])


def _reader_is_gone() -> bool:
    """Whether it is stdout that broke, and not a connection to a store."""
    poll = select.poll()
    try:
        poll.register(sys.stdout.fileno(), 0)
    except (OSError, ValueError):
        return False
    return any(event & select.POLLERR for _, event in poll.poll(0))


def _exists(target: str) -> bool:
    return find_spec(target.partition(":")[0]) is not None


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="Any command takes --debug, which shows tracebacks. "
    "Exit status: 0 done, 2 wrong input or settings, 3 a step failed, 4 a gate refused, 130 interrupted.",
)
@click.version_option(package_name="conveyor", prog_name="conveyor")
def conveyor() -> None:
    """From a folder or bucket of labelled images to a trained, compressed, promoted CNN.

    Start with:  conveyor run --source DIR   (DIR has one folder of images per class)
    """


def invoke(arguments: Sequence[str], graph: Graph = GRAPH) -> int:
    """Run one command line and return its exit status. `graph` is the table of steps to work with."""
    debug = "--debug" in arguments
    rest = [argument for argument in arguments if argument != "--debug"]
    session = Session(graph, tuple(arguments), debug)
    try:
        with graceful():
            status = conveyor.main(args=rest, prog_name="conveyor", standalone_mode=False, obj=session)
            sys.stdout.flush()
            return status if isinstance(status, int) else 0
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return 2
    except click.ClickException as error:
        error.show()
        return 2
    except click.exceptions.Exit as error:
        return error.exit_code
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else 1
    except click.Abort:
        return report_failure(KeyboardInterrupt())
    except (ReaderGoneError, BrokenPipeError):
        # Nothing to say, and nothing more may be flushed to it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except BaseException as error:  # noqa: BLE001 - the last stop of everything, Ctrl-C included
        return report_failure(error, debug=debug)
