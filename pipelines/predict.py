"""`conveyor predict`: label new images with a registered model and the preprocessing that it carries."""

import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import click
import numpy as np

from components.common.errors import InputError
from components.common.machine import num_cores
from components.common.progress import make_reporter
from components.data.strict import BadImageError
from components.models.predictor import Predictor
from components.promote.documents import Version
from components.promote.registry import Registry, open_registry, require_champion
from pipelines.commands.options import Session, store_option
from pipelines.config import read_config
from pipelines.prediction.inputs import Image, Place, find_images, read_batches
from pipelines.prediction.outputs import FORMATS, Answer

CHAMPION = "champion"


@click.command("predict")
@click.argument("paths", metavar="PATH...", nargs=-1, required=True)
@click.option(
    "--model", default=CHAMPION, metavar="champion|VERSION", help="Which version answers [champion]."
)
@click.option("--registry", metavar="NAME", help="The registered model; needed where there are several.")
@store_option
@click.option("-f", "--file", type=click.Path(path_type=Path), help="A config file (YAML), for its store.")
@click.option(
    "--format", "fmt", type=click.Choice(list(FORMATS)), default="table", help="How to print [table]."
)
@click.option(
    "--top", type=click.IntRange(min=1), default=1, metavar="K", help="The K likeliest classes [1]."
)
@click.option("--batch-size", type=click.IntRange(min=1), default=64, help="Images at once [64].")
@click.option("--threads", type=click.IntRange(min=1), help="Threads of the model [one for each core].")
@click.option("--quiet", is_flag=True, help="No progress on stderr.")
@click.pass_obj
def command(
    session: Session,
    paths: tuple[str, ...],
    model: str,
    registry: str | None,
    store: str | None,
    file: Path | None,
    fmt: str,
    top: int,
    batch_size: int,
    threads: int | None,
    quiet: bool,
) -> int:
    """Label images: files, folders (with all below them), archives, s3:// prefixes.

    Answers go to stdout as they come. An image that cannot be read is named on stderr, the others are answered all the
    same, and the exit status is 2 then.
    """
    config = read_config(session.graph, file, (), {"store": store})
    opened = open_registry(config.store.open(), registry)
    version = choose_version(opened, model)
    with tempfile.TemporaryDirectory(prefix="conveyor-predict-") as scratch:
        places = find_images(paths, config.store, Path(scratch))
        predictor = Predictor(version.spec, opened.read_model(version), threads=threads or num_cores())
        printer = FORMATS[fmt](min(top, len(version.spec.classes)))
        reporter = make_reporter(quiet=quiet or sys.stdout.isatty())
        total, num_bad = sum(len(place.entries) for place in places), 0
        sys.stdout.write(printer.begin())
        with reporter.task("predict", total=total, unit="images") as task:
            for answers in predict_all(predictor, places, batch_size=batch_size, top=top):
                sys.stdout.write(printer.some(answers))
                sys.stdout.flush()
                for answer in answers:
                    if answer.error is not None:
                        num_bad += 1
                        click.echo(f"{answer.path}: {_words(answer.error)}", err=True)
                task.advance(len(answers))
        sys.stdout.write(printer.end())
    if num_bad:
        click.echo(f"{num_bad:,} of {total:,} images could not be read", err=True)
    return InputError.exit_code if num_bad else 0


def choose_version(registry: Registry, wanted: str) -> Version:
    """The champion, or the version of that number (`3` or `v3`). Raises `InputError` for anything else."""
    if wanted == CHAMPION:
        return require_champion(registry)
    number = wanted.removeprefix("v")
    if not number.isdecimal():
        raise InputError(
            "this is not a version of a model",
            where=f"--model {wanted}",
            expected="champion, or the number of a version",
            todo="conveyor models list",
        )
    return registry.version(int(number))


def predict_all(
    predictor: Predictor, places: Sequence[Place], *, batch_size: int = 64, top: int = 1
) -> Iterator[list[Answer]]:
    """The answers to every image, in order, a batch at a time; memory does not grow with their number."""
    for images in read_batches(places, batch_size):
        yield _answers(predictor, images, top)


def _answers(predictor: Predictor, images: Sequence[Image], top: int) -> list[Answer]:
    readable = [image for image in images if image.error is None]
    predictions = predictor.predict([image.data for image in readable])
    classes = predictor.spec.classes
    # Of equal probabilities the lower index comes first, as in evaluation.
    order = np.argsort(-predictions.probabilities, axis=1, kind="stable")[:, :top]
    answers: list[Answer] = []
    rows = iter(range(len(readable)))
    for image in images:
        row = None if image.error is not None else next(rows)
        error = image.error if row is None else predictions.errors.get(row)
        if row is None or error is not None:
            answers.append(Answer(image.path, error=error))
        else:
            ranked = ((classes[k], float(predictions.probabilities[row, k])) for k in order[row])
            answers.append(Answer(image.path, tuple(ranked)))
    return answers


def _words(error: BadImageError) -> str:
    return error.reason.replace("_", " ") + (f" ({error.detail})" if error.detail else "")
