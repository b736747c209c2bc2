"""Ingest: a source of labelled images becomes a snapshot: checked, deduplicated, grouped, split and packed."""

import os
from collections import Counter
from pathlib import Path
from typing import cast

import numpy as np

from components.common.canonical import Json, canonical_json
from components.common.errors import InputError
from components.common.refs import SPLITS, SnapshotRef, Split
from components.common.step import StepContext, StepInputs
from components.common.store.base import Store
from components.common.trees import Tree
from components.ingest import heads, manifest
from components.ingest.check import Limits, check_batch
from components.ingest.config import IngestConfig
from components.ingest.contents import Contents
from components.ingest.dedupe import Fate, find_duplicates
from components.ingest.intake import NOT_KNOWN, Check, Intake, Known, pack_missing, take_in
from components.ingest.labels import label_entries
from components.ingest.manifest import Row, Snapshot
from components.ingest.packs import writing_packs
from components.ingest.place import place_rows
from components.ingest.plan import (
    Plan,
    cache_name,
    checks,
    make_plan,
    read_stamps,
    refuse_nothing,
    write_stamps,
)
from components.ingest.sources.base import Entry, Listing
from components.ingest.summary import refuse_too_much, summarise

NAME = "ingest"


# What is run must be what the key says, and a large source takes a while to list: from `depends_on` to `run`.
_PLANS: dict[tuple[IngestConfig, str], Plan] = {}


class Inputs(StepInputs):
    """Ingest is the first step: it has none."""


def depends_on(config: IngestConfig, inputs: Inputs, store: Store) -> dict[str, Json]:  # noqa: ARG001 every step has inputs
    """The source as it is now, the snapshot to go on from, and the decoder."""
    _PLANS.clear()
    plan = _PLANS[config, store.url] = make_plan(config, store)
    return {
        "dataset": heads.dataset_name(config),
        "listing": plan.listing,
        "parent": plan.parent,
        "checks": checks(config),
    }


def run(
    config: IngestConfig,
    inputs: Inputs,  # noqa: ARG001 every step has inputs
    context: StepContext,
    *,
    check: Check = check_batch,
) -> SnapshotRef:
    """The whole step. `check` is what workers do with a batch; tests give one that dies.

    Raises `InputError` where the source is missing, unreadable, without classes, too bad or too small.
    """
    plan = _PLANS.pop((config, context.store.url), None) or make_plan(config, context.store)
    listing = plan.source.list(context.scratch)
    refuse_nothing(config, listing.entries, listing.ignored)
    classes = label_entries(listing.entries, config)
    parent = manifest.read_snapshot(context.blobs, plan.parent, context.scratch) if plan.parent else None
    contents, known = _what_is_known(config, plan, parent, context)
    limits = Limits(config.max_pixels, config.max_file_bytes, config.min_side)

    with writing_packs(context.blobs, context.scratch, config.pack_bytes) as packs:
        intake = take_in(
            plan.source,
            listing.entries,
            classes,
            contents,
            known,
            packs,
            context.reporter,
            limits=limits,
            num_workers=config.num_workers or os.cpu_count() or 1,
            timeout_s=config.timeout_s,
            check=check,
        )
        _decide_duplicates(intake, parent)
        refuse_too_much(intake.rows, config.max_quarantined_share, config.source)
        pack_missing(plan.source, {entry.name: entry for entry in listing.entries}, intake, packs, limits)
        written = packs.done
    names = tuple(
        sorted({row.class_name for row in intake.rows if row.status == "accepted" and row.class_name})
    )
    place_rows(intake, names, parent, config)
    _refuse_too_few(config, names, intake.rows)

    ref = _publish(config, context, intake, names, listing, parent, written)
    _move_head(config, context, plan, listing.entries, ref)
    _report(context, intake, ref)
    return ref


def _what_is_known(
    config: IngestConfig, plan: Plan, parent: Snapshot | None, context: StepContext
) -> tuple[Contents, Known]:
    """The parent's images, and its verdicts where they were reached in the same way."""
    if parent is None:
        return Contents(), Known()
    contents = parent.contents
    # Kept young, so that no garbage collection takes one before the new snapshot names it.
    packs = {pack: parent.tree[f"packs/{pack}.tar"] for pack in contents.pack if pack is not None}
    gone = {p for p, e in packs.items() if not context.blobs.keep(e.digest, e.size_bytes)}
    contents.forget_packs(gone)
    places = contents.places()
    if parent.summary.get("checks") != checks(config):
        return Contents(), Known(places=places)
    stamps = read_stamps(context.store, cache_name(plan.pointer, plan.parent or ""), context.scratch)
    return contents, Known(parent.rows, stamps, places)


def _decide_duplicates(intake: Intake, parent: Snapshot | None) -> None:
    rows, contents = intake.rows, intake.contents
    before = parent.rows.values() if parent else ()
    settled = {row.digest for row in before if row.status == "accepted" and row.digest is not None}
    fates = find_duplicates(
        [contents.pixels[row.content] if row.content >= 0 and row.reason is None else None for row in rows],
        [row.digest for row in rows],
        [row.class_name for row in rows],
        settled,
    )
    for row, fate in zip(rows, fates, strict=True):
        if fate is Fate.DUPLICATE:
            row.status = "duplicate"
        elif fate is Fate.CONFLICT:
            row.quarantine("label_conflict")


def _refuse_too_few(config: IngestConfig, names: tuple[str, ...], rows: list[Row]) -> None:
    if len(names) < 2:
        raise InputError(
            "fewer than two classes are left once the bad images are put aside",
            where=config.source,
            expected="at least two classes with a good image",
            found=", ".join(names) or "none",
            todo="look at what was quarantined: conveyor report, or a rerun with --set ingest.max_quarantined_share=1",
        )
    splits = Counter(row.split for row in rows if row.status == "accepted")
    empty = [split for split in SPLITS if not splits[split]]
    if empty:
        raise InputError(
            "there are too few images to split",
            where=config.source,
            expected="at least three different images in one of the classes",
            found=f"{sum(splits.values())} images; none for {' and '.join(empty)}",
            todo="add images",
        )


def _publish(
    config: IngestConfig,
    context: StepContext,
    intake: Intake,
    names: tuple[str, ...],
    listing: Listing,
    parent: Snapshot | None,
    written: dict[str, tuple[str, int]],
) -> SnapshotRef:
    """Write manifest, summary and tree; the packs are there already."""
    rows, contents = intake.rows, intake.contents
    ignored = listing.ignored | ({NOT_KNOWN: intake.ignored} if intake.ignored else {})
    summary = summarise(rows, contents, ignored, listing.notes) | {"checks": checks(config)}
    path: Path = context.scratch / manifest.NAME
    manifest.write_manifest(rows, contents, names, path)
    entries = {
        manifest.NAME: context.blobs.put(path),
        manifest.SUMMARY: context.blobs.put(canonical_json(summary)),
    }
    accepted = [row.content for row in rows if row.status == "accepted"]
    for pack in {contents.pack[c] for c in accepted}:
        assert pack is not None
        if pack in written:
            entries[f"packs/{pack}.tar"] = written[pack]
        else:
            assert parent is not None
            old = parent.tree[f"packs/{pack}.tar"]
            entries[f"packs/{pack}.tar"] = (old.digest, old.size_bytes)
    splits: dict[Split, int] = dict.fromkeys(SPLITS, 0)
    for row in rows:
        if row.split is not None:
            splits[cast(Split, row.split)] += 1
    return SnapshotRef(
        tree=Tree.write(context.blobs, entries),
        dataset=heads.dataset_name(config),
        classes=names,
        num_accepted=len(accepted),
        num_quarantined=sum(row.status == "quarantined" for row in rows),
        num_duplicates=sum(row.status == "duplicate" for row in rows),
        reasons=dict(
            sorted(Counter(row.reason for row in rows if row.status == "quarantined" and row.reason).items())
        ),
        splits=splits,
        channels=1 if all(contents.channels[c] == 1 for c in accepted) else 3,
        median_height=int(np.median([contents.height[c] for c in accepted])),
        median_width=int(np.median([contents.width[c] for c in accepted])),
    )


def _move_head(
    config: IngestConfig, context: StepContext, plan: Plan, entries: list[Entry], ref: SnapshotRef
) -> None:
    """What was seen under which stamp first, then the pointer that makes it count."""
    write_stamps(context.store, cache_name(plan.pointer, ref.tree), entries, context.scratch)
    head = heads.Head(plan.listing, plan.basis, plan.parent, ref.to_value())
    if not heads.move_head(context.store, plan.pointer, plan.line, head, anew=config.parent == "none"):
        context.reporter.warning(
            "another ingest of this data set ended first; the next run goes on from its snapshot",
            dataset=ref.dataset,
        )


def _report(context: StepContext, intake: Intake, ref: SnapshotRef) -> None:
    context.measure["images_read"] = intake.num_read
    context.reporter.info(
        f"{ref.dataset}: {ref.num_accepted} images of {len(ref.classes)} classes accepted",
        **{str(split): num for split, num in ref.splits.items()},
        colour="grey" if ref.channels == 1 else "RGB",
        median_size=f"{ref.median_width}×{ref.median_height}",
        duplicates=ref.num_duplicates,
    )
    if ref.reasons:
        reasons = ", ".join(f"{num} {reason}" for reason, num in ref.reasons.items())
        context.reporter.warning(f"{ref.num_quarantined} images quarantined: {reasons}")
    held = sum(row.status == "held_out" for row in intake.rows)
    if held:
        context.reporter.warning(
            f"{held} images held out: each is nearly the same as images of two different splits"
        )
    per_class = Counter(row.class_name for row in intake.rows if row.status == "accepted")
    tiny = sorted(name for name, num in per_class.items() if name is not None and num < 3)
    if tiny:
        context.reporter.warning(
            f"{len(tiny)} classes have fewer than 3 images, so not every split has one: {', '.join(tiny[:5])}"
        )
