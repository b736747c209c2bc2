"""`conveyor verify`: read everything in the store that something needs, and compare it with its digest."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from components.common.blobs import Blobs, blob_key
from components.common.errors import ConveyorError, StoreError
from components.common.progress import Reporter, make_reporter
from components.common.records import parse_record
from components.common.store.base import DigestMismatchError, NotFoundError, Store
from components.promote.registry import Registry, list_registries
from pipelines import reach
from pipelines.commands.options import Session, store_option
from pipelines.config import read_config
from pipelines.reach import CHECKPOINT, RECORD, Root
from pipelines.summary import size

THREADS = 8
CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that is needed and is not as it should be."""

    what: str
    """missing, damaged, or what is wrong with a document."""
    name: str
    """Digest of a blob, or name of a document."""
    needed_by: str
    """Object that needs it."""


@dataclass
class Verified:
    """What was found."""

    faults: list[Fault] = field(default_factory=list)
    num_blobs: int = 0
    num_models: int = 0
    size_bytes: int = 0
    num_roots: int = 0


def verify(store: Store, reporter: Reporter) -> Verified:
    """Read all that is reachable. Damage is returned; only a store that cannot be read at all raises."""
    result = Verified()
    roots = list(_roots(store, result))
    result.num_roots = len(roots)
    result.faults += _models(store, result)
    blobs = Blobs(store)
    reached = reach.walk(blobs, roots)
    todo = [digest for digest in (*reached.needed_by, *reached.loosely) if digest not in reached.broken]
    todo = list(dict.fromkeys(todo))
    found: dict[str, ConveyorError] = dict(reached.broken)
    with (
        reporter.task("verify", total=len(todo), unit="blobs") as task,
        ThreadPoolExecutor(THREADS) as pool,
    ):
        for digest, checked in zip(todo, pool.map(lambda digest: _check(blobs, digest), todo), strict=True):
            task.advance()
            if isinstance(checked, int):
                result.num_blobs += 1
                result.size_bytes += checked
            # What is only kept where it exists may be missing.
            elif digest in reached.needed_by or not isinstance(checked, NotFoundError):
                found[digest] = checked
    for digest, error in found.items():
        names = reached.needed_by.get(digest) or reached.loosely[digest]
        result.faults += [Fault(_kind(error), digest, name) for name in sorted(names)]
    return result


def _roots(store: Store, result: Verified) -> Iterator[Root]:
    """Every root there is; documents that cannot be read become faults."""
    for info in store.list("records/"):
        if not RECORD.fullmatch(info.key):
            continue
        try:
            data, _ = store.read(info.key)
            yield reach.record_root(info.key, parse_record(data, where=f"{store.url}/{info.key}"))
        except NotFoundError:
            continue
        except StoreError as error:
            result.faults.append(Fault(error.what, info.key, info.key))
    try:
        yield from reach.data_set_roots(store)
        yield from reach.model_roots(store)
        yield from (root for root, _ in reach.attempt_roots(store))
    except StoreError as error:
        result.faults.append(Fault(error.what, error.where or "", error.where or ""))
    for info in store.list("checkpoints/"):
        if CHECKPOINT.fullmatch(info.key) and (root := reach.checkpoint_root(store, info)) is not None:
            yield root
    result.faults += list(_dangling(store))


def _dangling(store: Store) -> Iterator[Fault]:
    """Runs that point to a record which is not there."""
    there = set(reach.steps_and_keys(store.list("records/")))
    for info in store.list("runs/"):
        try:
            pointed = reach.pointed_at(store, [info])
        except StoreError as error:
            yield Fault(error.what, info.key, info.key)
            continue
        yield from (Fault("missing", f"records/{step}/{key}.json", info.key) for step, key in pointed - there)


def _models(store: Store, result: Verified) -> list[Fault]:
    """Model files lie in the registry as they are served; each must be the one that its version names."""
    faults = []
    for name in list_registries(store):
        registry = Registry(store, name)
        for number in registry.numbers():
            document = f"registry/{name}/versions/{number}/version.json"
            try:
                if registry.is_complete(number):
                    result.size_bytes += len(registry.read_model(registry.version(number)))
                    result.num_models += 1
            except ConveyorError as error:
                faults.append(Fault(_kind(error), registry.model_key(number), document))
    return faults


def _check(blobs: Blobs, digest: str) -> int | ConveyorError:
    """Size in bytes of a blob that is what its digest says, else what is wrong with it."""
    num = 0
    try:
        with blobs.open(digest) as stream:
            while chunk := stream.read(CHUNK_BYTES):
                num += len(chunk)
    except StoreError as error:
        return error
    return num


def _kind(error: ConveyorError) -> str:
    if isinstance(error, NotFoundError):
        return "missing"
    return "damaged" if isinstance(error, DigestMismatchError) else error.what


def repair(store: Store, faults: list[Fault]) -> list[str]:
    """Remove damaged blobs, and the records, checkpoints and pointers that need what is damaged or missing.

    The next run then works out anew what is lost. Returns the names of what was removed. Data sets' pointers and
    registered models stay: what they hold cannot be made again from the store, so a person has to decide.
    """
    removed = []
    for fault in faults:
        for key in (fault.needed_by, fault.name):
            if key.startswith(("records/", "checkpoints/", "runs/")) and key.endswith(".json"):
                if store.stat(key) is not None:
                    store.delete(key)
                    removed.append(key)
            elif key.startswith("sha256:") and store.stat(blob_key(key)) is not None:
                store.delete(blob_key(key))
                removed.append(blob_key(key))
    return removed


@click.command(name="verify")
@store_option
@click.option("-f", "--file", type=click.Path(path_type=Path), help="A config file (YAML), for its store.")
@click.option(
    "--repair", "repaired", is_flag=True, help="Remove what is damaged, so that a run makes it anew."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
@click.pass_context
def command(
    ctx: click.Context, /, store: str | None, file: Path | None, repaired: bool, as_json: bool
) -> None:
    """Read every blob that a record, data set, checkpoint or registered model needs, and check its digest.

    Lists what is missing or damaged, and what needs it. Exit status 3 where anything is.
    """
    session: Session = ctx.obj
    opened = read_config(session.graph, file, (), {"store": store}).store.open()
    result = verify(opened, make_reporter())
    removed = repair(opened, result.faults) if repaired else []
    click.echo(_json(opened, result, removed) if as_json else _text(opened, result, removed))
    ctx.exit(StoreError.exit_code if result.faults else 0)


def _json(store: Store, result: Verified, removed: list[str]) -> str:
    document: dict[str, Any] = {
        "store": store.url,
        "roots": result.num_roots,
        "blobs": result.num_blobs,
        "models": result.num_models,
        "size_bytes": result.size_bytes,
        "faults": [{"what": f.what, "name": f.name, "needed_by": f.needed_by} for f in result.faults],
        "removed": removed,
    }
    return json.dumps(document)


def _text(store: Store, result: Verified, removed: list[str]) -> str:
    whole = ", ".join(
        f"{num:,} {what}{'s' * (num != 1)}"
        for num, what in ((result.num_blobs, "blob"), (result.num_models, "model file"))
        if num
    )
    whole = f"{whole or 'nothing'} of {size(result.size_bytes)}"
    if not result.faults and not result.num_roots:
        return f"{store.url} holds nothing that could be verified"
    if not result.faults:
        return f"{store.url} is whole: {whole}, needed by {result.num_roots:,} document{'s' * (result.num_roots != 1)}"
    lines = [f"{store.url} is damaged ({whole} is whole):"]
    lines += [
        f"  {fault.what:<8} {fault.name}\n           needed by {fault.needed_by}" for fault in result.faults
    ]
    if removed:
        lines += ["removed:", *(f"  {name}" for name in removed), "run the pipeline again to make it anew"]
    else:
        lines.append("to do: 'conveyor verify --repair' removes it, then a run makes it anew")
    return "\n".join(lines)
