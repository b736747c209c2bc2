"""The command line of one step: `conveyor step train`, which is what a container runs, and `python -m components.train`."""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Any

import click

from components.common.canonical import canonical_json
from components.common.config import load_config, parse_override
from components.common.errors import ConveyorError, InputError, StepError
from components.common.failed import note_failure, refuse_ended, telling_failure
from components.common.failures import graceful, leave, report_failure
from components.common.full_disk import full_disk, sized_as
from components.common.given import given as given_to
from components.common.mixed import refuse_mixed
from components.common.progress import make_reporter
from components.common.refs import Ref, parse_ref
from components.common.runs import Pointer, check_run_id, output_of, read_pointer, this_job
from components.common.sections import RootBase, known_steps, root_model
from components.common.step import Outcome, StepInputs, execute
from components.common.store import Store
from components.common.wait import begin, run_of_settings, wait_for_step, wait_for_store
from components.common.watch import FULL_DISK, MEMORY_LIMIT, WAIT, stand_by

NAMESPACE = "CONVEYOR_NAMESPACE"
STORE = "store"
WAIT_DEADLINE_S = 86400.0


def main(package: str, argv: Sequence[str] | None = None) -> None:
    """Run the step in `package` with the process's arguments, and exit with its status."""
    leave(_status(package, sys.argv[1:] if argv is None else argv))


def _status(package: str, argv: Sequence[str]) -> int:
    command = make_command(package.rpartition(".")[2], package)
    try:
        with graceful():
            command.main(args=list(argv), standalone_mode=False)
            sys.stdout.flush()
            return 0
    except click.ClickException as error:
        error.show()
        return 2
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.Abort:  # click's own name for Ctrl-C
        return report_failure(KeyboardInterrupt())
    except BaseException as error:  # noqa: BLE001 - the last stop of everything, Ctrl-C included
        return report_failure(error, debug="--debug" in argv)


def make_command(name: str, package: str, default_inputs: dict[str, str] | None = None) -> click.Command:
    """The step as a click command. `default_inputs` (field → step) is looked up in the run where none is given."""

    @click.command(name=name, help=_help(name, package))
    @click.option(
        "--run", "run_id", metavar="ID", help="The run: inputs are found in it, the result is noted in it."
    )
    @click.option("--store", metavar="URL", help="A folder, file:///path or s3://bucket/prefix.")
    @click.option("-f", "--file", "file", type=click.Path(path_type=Path), help="A config file.")
    @click.option("--config", "text", metavar="YAML", help="The config itself, as text, instead of a file.")
    @click.option(
        "--set", "settings", multiple=True, metavar="KEY=VALUE", help="One setting (train.epochs=3)."
    )
    @click.option(
        "--input",
        "inputs",
        multiple=True,
        metavar="NAME=FILE|run:STEP",
        help="A reference: a JSON file, or what a step of the run produced.",
    )
    @click.option(
        "--run-prefix",
        metavar="PREFIX",
        help="Instead of --run: PREFIX and a digest of settings and code, so that equal ones find the same run.",
    )
    @click.option(
        "--wait-for",
        metavar=f"STEP|{STORE}",
        help="Only wait until this step has a result in the run, or until the store answers; then end.",
    )
    @click.option(
        "--deadline",
        type=click.FloatRange(min=0),
        default=WAIT_DEADLINE_S,
        show_default=True,
        metavar="SECONDS",
        help="Of waiting for a step.",
    )
    @click.option(
        "--watch",
        is_flag=True,
        help="Only wait until this container is ended, and tell the run where the step beside it was killed.",
    )
    @click.option("--output", type=click.Path(path_type=Path), help="Write the resulting reference here too.")
    @click.option("--quiet", is_flag=True, help="Only warnings and errors.")
    @click.option("--debug", is_flag=True, expose_value=False, help="Show tracebacks.")  # read by main()
    def command(
        run_id: str | None,
        store: str | None,
        file: Path | None,
        text: str | None,
        settings: tuple[str, ...],
        inputs: tuple[str, ...],
        run_prefix: str | None,
        wait_for: str | None,
        deadline: float,
        watch: bool,
        output: Path | None,
        quiet: bool,
    ) -> None:
        killed = stand_by() if watch else None
        if watch and killed is None:
            return
        if file is not None and text is not None:
            raise InputError("a config is given twice", found="-f and --config", todo="give one of the two")
        overrides = [parse_override(setting) for setting in settings]
        if store is not None:
            overrides.append(parse_override(f"store.url={json.dumps(store)}", option="--store"))
        packages = known_steps(package)
        config = load_config(root_model(packages), file, overrides, text=text)
        if run_prefix is not None:
            if run_id is not None:
                raise InputError(
                    "a run is named twice", found="--run and --run-prefix", todo="give one of the two"
                )
            run_id = run_of_settings(run_prefix, config, packages, os.environ.get(NAMESPACE, ""))
        if killed is not None:
            tell_killed(name, config, run_id, killed, quiet=quiet)
            return
        if wait_for is not None:
            wait(name, wait_for, config, run_id, deadline_s=deadline, quiet=quiet)
            return
        chosen = default_inputs or {}
        given = dict(_split_input(value) for value in inputs)
        sources = {field: f"run:{step}" for field, step in chosen.items()} | given
        outcome = run_step(name, package, config, sources, run_id=run_id, quiet=quiet)
        reference = canonical_json(outcome.output.to_value())
        if output is not None:
            write_file(output, reference)
        click.echo(reference.decode())

    return command


def run_step(
    name: str,
    package: str,
    config: RootBase,
    sources: dict[str, str],
    *,
    run_id: str | None = None,
    quiet: bool = False,
) -> Outcome:
    """Run one step with its section of `config`; `sources` says where each input is (a file, or `run:STEP`)."""
    if run_id is not None:
        check_run_id(run_id)
    reporter = make_reporter(quiet=quiet)
    store = config.store.open()
    store.check()
    with telling_failure(store, run_id, name) if run_id is not None else nullcontext():
        program = import_module(f"{package}.run")
        pointers = pointers_of(sources, store, run_id)
        used = {step: pointer.job for step, pointer in pointers.items() if pointer.job is not None}
        if run_id is not None:
            refuse_mixed(store, run_id, name, pointers)
        noted = (
            given_to(store, run_id, name)
            if run_id and set(program.Inputs.model_fields) - set(sources)
            else {}
        )
        inputs = read_inputs(program.Inputs, sources, store, run_id, noted)
        outcome = execute(program, config.section(name), inputs, store, reporter, run_id=run_id, used=used)
    reporter.info(f"{name}: {outcome.state}", seconds=round(outcome.seconds, 1), key=outcome.key[:12])
    return outcome


def wait(
    name: str, upstream: str, config: RootBase, run_id: str | None, *, deadline_s: float, quiet: bool = False
) -> None:
    """What an init container does: return when the step can start from what `upstream` left (or `store` answers).

    A failure to come is told to whoever waits for this step in turn.
    """
    reporter = make_reporter(quiet=quiet)
    store = config.store.open()
    wait_for_store(store, reporter)
    if run_id is not None and upstream == STORE:
        begin(store, run_id, name)
    elif run_id is not None:
        refuse_ended(store, run_id, name)
        with telling_failure(store, run_id, name, waiting=True):
            wait_for_step(store, run_id, name, upstream, reporter, deadline_s=deadline_s)
    elif upstream != STORE:
        raise InputError(
            "waiting for a step needs a run", where=f"--wait-for {upstream}", todo="add --run ID"
        )


def tell_killed(name: str, config: RootBase, run_id: str | None, who: str, *, quiet: bool = False) -> None:
    """What the container beside the step's does at the end, where another one was killed: count a failed try for it."""
    job = this_job()
    if run_id is None or job is None:
        raise InputError("watching a step needs a run and a Job", todo="add --run ID, in a Job's pod")
    error = full_disk(name) if who == FULL_DISK else killed_without_a_word(name, who)
    reporter = make_reporter(quiet=quiet)
    try:
        failure = note_failure(config.store.open(), run_id, name, job, error)
    except ConveyorError as unheard:
        reporter.warning("nobody hears that the step was killed", step=name, found=unheard.what)
    else:
        counted = {"tries": failure.tries, "final": failure.final} if failure is not None else {}
        reporter.warning(error.what, run=run_id, **counted)


def killed_without_a_word(name: str, who: str) -> StepError:
    """What a step has failed of whose process left its mark, there where it waited (`who`) or later."""
    seen = "kubectl describe pod says OOMKilled where it was that"
    if who == WAIT:
        return StepError(
            f"{name} was killed without a word while it waited, most likely out of memory",
            todo=f"raise the limit of its init container with a patch ({seen})",
        )
    limit = os.environ.get(MEMORY_LIMIT)
    return StepError(
        f"{name} was killed without a word, most likely out of memory"
        + f" (limit {limit} MiB)" * bool(limit),
        todo=f"raise kubernetes.resources.{sized_as(name)}.memory ({seen})",
    )


def pointers_of(sources: Mapping[str, str], store: Store, run_id: str | None) -> dict[str, Pointer]:
    """Step → what the run has of it, for each source `run:STEP`; empty outside Jobs that wait for each other."""
    if run_id is None or this_job() is None:
        return {}
    steps = {source.removeprefix("run:") for source in sources.values() if source.startswith("run:")}
    pointers = [read_pointer(store, run_id, step) for step in sorted(steps)]
    return {pointer.step: pointer for pointer in pointers if pointer is not None}


def read_inputs(
    kind: type[StepInputs],
    sources: dict[str, str],
    store: Store,
    run_id: str | None,
    noted: Mapping[str, Ref] = MappingProxyType({}),
) -> StepInputs:
    """Resolve each input; what no source is given for may be `noted` in the run.

    Raises `InputError` for a name that is unknown or missing, or a reference of another kind.
    """
    fields = kind.model_fields
    for field, source in sources.items():
        if field not in fields:
            raise InputError(
                f"the step has no input called {field}",
                where=f"--input {field}={source}",
                expected=f"one of {', '.join(fields)}" if fields else "no --input at all",
            )
    values: dict[str, Any] = {}
    for field, info in fields.items():
        if field in sources:
            ref = read_reference(field, sources[field], store, run_id)
            if isinstance(info.annotation, type) and not isinstance(ref, info.annotation):
                raise InputError(
                    f"the input {field} is of another kind",
                    where=f"--input {field}={sources[field]}",
                    expected=info.annotation.__name__,
                    found=type(ref).__name__,
                )
            values[field] = ref
        elif field in noted:
            values[field] = noted[field]
        elif info.is_required():
            raise InputError(
                f"the input {field} is missing",
                todo=f"give --input {field}=FILE (a reference) or --input {field}=run:STEP with --run",
            )
    return kind(**values)


def read_reference(field: str, source: str, store: Store, run_id: str | None) -> Ref:
    """A reference from `run:STEP` or from a JSON file."""
    where = f"--input {field}={source}"
    if source.startswith("run:"):
        step = source.removeprefix("run:")
        if run_id is None:
            raise InputError(
                f"the input {field} comes from a run, and no run is given", where=where, todo="add --run ID"
            )
        ref = output_of(store, run_id, step)
        if ref is None:
            raise InputError(
                f"the run {run_id} has no result of {step} yet",
                where=f"{store.url}/runs/{run_id}",
                todo=f"run {step} first, under the same run name and store",
            )
        return ref
    try:
        return parse_ref(json.loads(Path(source).read_bytes()), where=source)
    except (OSError, ValueError) as error:
        raise InputError(f"the input {field} cannot be read", where=where, found=str(error)) from error


def write_file(path: Path, data: bytes) -> None:
    """Whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    part.write_bytes(data)
    part.replace(path)


def _split_input(value: str) -> tuple[str, str]:
    field, separator, source = value.partition("=")
    if not separator or not field or not source:
        raise InputError(
            "an input needs a name and a place",
            where=f"--input {value}",
            expected="name=FILE or name=run:STEP",
        )
    return field, source


def _help(name: str, package: str) -> str:
    doc = (import_module(package).__doc__ or name).strip()
    return f"{doc}\n\nPrints the resulting reference on stdout; an unchanged step is reused."
