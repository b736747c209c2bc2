"""`conveyor models`: what is registered, and which version serves."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from components.common.errors import GateRefusedError, InputError, StepError
from components.promote.documents import Champion, Move, Version
from components.promote.registry import Registry, open_registry
from components.promote.run import utc_now
from pipelines.commands.options import Session, store_option
from pipelines.config import read_config

MAX_TRIES = 8
CommandT = TypeVar("CommandT", bound=Callable[..., Any])


@click.group("models")
def command() -> None:
    """List, show, promote and roll back models."""


def registry_options(function: CommandT) -> CommandT:
    for option in reversed(
        (
            click.option(
                "--registry", metavar="NAME", help="The registered model; needed where there are several."
            ),
            store_option,
            click.option(
                "-f", "--file", type=click.Path(path_type=Path), help="A config file, for its store."
            ),
            click.option("--json", "as_json", is_flag=True, help="Print JSON."),
        )
    ):
        function = option(function)
    return function


@command.command("list")
@registry_options
@click.pass_obj
def list_(
    session: Session, registry: str | None, store: str | None, file: Path | None, as_json: bool
) -> None:
    """List the versions of a registered model, the newest last."""
    opened = _open(session, registry, store, file)
    document = opened.pointer().document
    rows = [_row(opened, version, document) for version in opened.versions()]
    if as_json:
        click.echo(json.dumps({"registry": opened.name, "champion": document.champion, "versions": rows}))
        return
    click.echo(f"{opened.name} in {opened.store.url}", err=True)
    click.echo("version  state              accuracy      size  candidate             registered")
    for row in rows:
        click.echo(
            f"{row['version']:>7}  {row['state']:<17}  {100 * row['accuracy']:>6.2f} %  {_size(row['size_bytes']):>8}  "
            f"{row['candidate']:<20}  {row['created'][:16].replace('T', ' ')}"
        )


@command.command("show")
@click.argument("version", required=False)
@registry_options
@click.pass_obj
def show(
    session: Session,
    version: str | None,
    registry: str | None,
    store: str | None,
    file: Path | None,
    as_json: bool,
) -> None:
    """Show a version (the champion where none is named): its card, and what the gates said."""
    opened = _open(session, registry, store, file)
    document = opened.pointer().document
    found = opened.version(_number(opened, version, document))
    decision = opened.decision(found.number)
    card = opened.read_text(found.number, "MODEL_CARD.md")
    if as_json:
        value = _row(opened, found, document) | {
            "model": found.spec.model,
            "place": opened.where(f"versions/{found.number}"),
            "metrics": found.metrics,
            "lineage": found.lineage,
            "decision": decision.model_dump(mode="json") if decision else None,
            "history": [move.model_dump(mode="json", exclude={"output"}) for move in document.moves],
        }
        click.echo(json.dumps(value))
        return
    click.echo(
        card or f"# {opened.name}, version {found.number}\n\nThe promotion that registers it has not ended.\n"
    )
    click.echo(f"State: {_state(opened, found, document)}\nPlace: {opened.where(f'versions/{found.number}')}")
    if decision is not None:
        click.echo(f"Decided {decision.decided}: {decision.reason}")
        for gate in decision.gates:
            click.echo(f"  {'passed ' if gate.passed else 'REFUSED'}  {gate.name}: {gate.detail}")
    moves = [move for move in document.moves if found.number in (move.before, move.after)]
    for move in moves:
        click.echo(f"  {move.at}  {_say(move)}")


@command.command("promote")
@click.argument("version", type=int)
@click.option("--force", is_flag=True, help="Although the gates refused it, or it was rolled back.")
@registry_options
@click.pass_obj
def promote(
    session: Session,
    version: int,
    force: bool,
    registry: str | None,
    store: str | None,
    file: Path | None,
    as_json: bool,
) -> None:
    """Make a version the champion by hand."""
    opened = _open(session, registry, store, file)
    found = opened.version(version)
    _check_model(opened, found)

    def plan(document: Champion) -> Move | None:
        if document.champion == version:
            return None
        if not force:
            _refuse_unforced(opened, found, document)
        decision = opened.decision(version)
        if decision is not None and decision.awaiting_approval and not force:
            return _move("approve", document, found, "approved by hand")
        return _move("force", document, found, "forced by hand" if force else "promoted by hand")

    _report(opened, _change(opened, plan), version, as_json)


@command.command("rollback")
@click.option("--to", "to", type=int, metavar="VERSION", help="Back to this one [the champion before].")
@registry_options
@click.pass_obj
def rollback(
    session: Session,
    to: int | None,
    registry: str | None,
    store: str | None,
    file: Path | None,
    as_json: bool,
) -> None:
    """Go back to an earlier champion. The version that is left is not promoted again unless forced."""
    opened = _open(session, registry, store, file)
    target = 0

    def plan(document: Champion) -> Move | None:
        nonlocal target
        target = _rollback_target(opened, document, to)
        found = opened.version(target)
        _check_model(opened, found)
        return (
            None if document.champion == target else _move("rollback", document, found, "rolled back by hand")
        )

    move = _change(opened, plan)
    _report(opened, move, target, as_json)


def _open(session: Session, name: str | None, store: str | None, file: Path | None) -> Registry:
    opened = read_config(session.graph, file, (), {"store": store}).store.open()
    return open_registry(opened, name)


def _number(registry: Registry, version: str | None, document: Champion) -> int:
    if version is None or version == "champion":
        if document.champion is None:
            raise InputError(
                f"{registry.name} has no champion yet", where=registry.where(), todo="conveyor models list"
            )
        return document.champion
    if not version.isdigit():
        raise InputError("this is not a version", expected="a number, or champion", found=repr(version))
    return int(version)


def _change(registry: Registry, plan: Callable[[Champion], Move | None]) -> Move | None:
    """Move the pointer as `plan` says of the newest state; None where there was nothing to do."""
    for _ in range(MAX_TRIES):
        pointer = registry.pointer()
        move = plan(pointer.document)
        if move is None or registry.move(pointer, move):
            return move
    raise StepError(
        "the champion kept changing", where=registry.where("champion.json"), todo="try again in a moment"
    )


def _move(action: Any, document: Champion, version: Version, reason: str) -> Move:
    return Move(
        action=action,
        before=document.champion,
        before_model=document.model(),
        after=version.number,
        after_model=version.spec.model,
        at=utc_now(),
        reason=reason,
    )


def _rollback_target(registry: Registry, document: Champion, to: int | None) -> int:
    if document.champion is None:
        raise InputError(f"{registry.name} has no champion to roll back", where=registry.where())
    if to is not None:
        return to
    previous = document.previous()
    if previous is None:
        raise InputError(
            f"there is no earlier champion of {registry.name} to go back to",
            where=registry.where("champion.json"),
            found=f"version {document.champion} is the only one that was not rolled back",
            todo="conveyor models rollback --to VERSION goes to any version",
        )
    return previous.after


def _refuse_unforced(registry: Registry, version: Version, document: Champion) -> None:
    decision = registry.decision(version.number)
    todo = f"conveyor models promote {version.number} --force overrules it"
    if document.rolled_back(version.spec.model):
        why = "its model was rolled back"
    elif decision is None:
        why = "the gates have not judged it"
    elif decision.awaiting_approval:
        if decision.champion_before == document.champion:
            return
        why = (
            f"it was compared with {_champion_words(decision.champion_before)}, "
            f"and the champion is {_champion_words(document.champion)} by now"
        )
        todo = f"run its pipeline again, which compares it anew; {todo}"
    elif not decision.promoted:
        why = decision.reason
    else:
        return
    raise GateRefusedError(
        f"version {version.number} of {registry.name} may not be promoted",
        where=registry.where(f"versions/{version.number}"),
        found=why,
        todo=todo,
    )


def _champion_words(number: int | None) -> str:
    return "no champion" if number is None else f"version {number}"


def _check_model(registry: Registry, version: Version) -> None:
    """A pointer must never lead to a version that cannot be served."""
    if not registry.is_complete(version.number):
        raise InputError(
            f"version {version.number} of {registry.name} has no model file",
            where=registry.where(f"versions/{version.number}"),
            found="its promotion was interrupted",
            todo="run the pipeline again, which completes it",
        )
    registry.read_model(version)


def _report(registry: Registry, move: Move | None, version: int, as_json: bool) -> None:
    if as_json:
        before = move.before if move else version
        value = {"registry": registry.name, "champion": version, "before": before, "moved": move is not None}
        click.echo(json.dumps(value))
    elif move is None:
        click.echo(f"version {version} of {registry.name} is the champion already")
    else:
        click.echo(f"{registry.name}: {_say(move)}")


def _say(move: Move) -> str:
    before = f"version {move.before} → " if move.before is not None else ""
    return f"{before}version {move.after} ({move.action}: {move.reason})"


def _row(registry: Registry, version: Version, document: Champion) -> dict[str, Any]:
    return {
        "version": version.number,
        "state": _state(registry, version, document),
        "candidate": version.spec.name,
        "accuracy": version.metrics["accuracy"],
        "num_test": version.num_test,
        "size_bytes": version.spec.size_bytes,
        "created": version.created,
    }


def _state(registry: Registry, version: Version, document: Champion) -> str:
    """champion, rolled back, retired (was champion), awaiting approval, refused, passed (but never moved to), or
    incomplete."""
    if document.champion == version.number:
        return "champion"
    if document.rolled_back(version.spec.model):
        return "rolled back"
    if any(move.after == version.number for move in document.moves):
        return "retired"
    decision = registry.decision(version.number)
    if decision is None or not registry.is_complete(version.number):
        return "incomplete"
    if decision.awaiting_approval:
        return "awaiting approval"
    return "passed" if decision.promoted else "refused"


def _size(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:.2f} MB" if size_bytes >= 1e6 else f"{size_bytes / 1e3:.1f} kB"
