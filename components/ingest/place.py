"""Group and split of every accepted row, inherited where the parent has settled them."""

import numpy as np

from components.common.refs import SPLITS
from components.ingest.config import IngestConfig
from components.ingest.group import assign_groups, near_pairs
from components.ingest.intake import Intake
from components.ingest.manifest import Row, Snapshot
from components.ingest.split import assign_splits


def place_rows(
    intake: Intake, classes: tuple[str, ...], parent: Snapshot | None, config: IngestConfig
) -> None:
    """Fill in group, split and, for newcomers between two splits, the status `held_out`."""
    contents = intake.contents
    settled = _settled(parent)
    rows = [row for row in intake.rows if row.status == "accepted"]
    for row in rows:
        before = settled.get(contents.pixels[row.content])
        if before is not None and before.status == "held_out":
            row.status, row.reason, row.group = "held_out", "bridge", before.group
    rows = [row for row in rows if row.status == "accepted"]
    before_rows = [settled.get(contents.pixels[row.content]) for row in rows]

    where = np.array([row.content for row in rows], np.int64)
    ident = np.array([int(contents.pixels[row.content][:16], 16) >> 1 for row in rows], np.int64)
    is_new = np.array([old is None for old in before_rows], np.bool_)
    old_group = np.array([old.group if old else 0 for old in before_rows], np.int64)
    old_split = np.array(
        [SPLITS.index(old.split) if old and old.split else -1 for old in before_rows], np.int8
    )
    phash = np.frombuffer(contents.phash, np.uint64)[where]
    pairs = near_pairs(phash, lambda some: contents.thumbs(where[some]), config.near_duplicate, is_new)
    grouped = assign_groups(ident, old_group, old_split, is_new, pairs)

    index = {name: i for i, name in enumerate(classes)}
    label = np.array([index[row.class_name or ""] for row in rows], np.int32)
    free = ~grouped.bridge
    split = np.full(len(rows), -1, np.int8)
    split[free] = assign_splits(
        grouped.group[free],
        label[free],
        grouped.split[free],
        shares=(config.split.train, config.split.val, config.split.test),
        min_per_class=config.split.min_per_class,
        seed=config.split.seed,
    )
    for row, group, its_split, bridge in zip(
        rows, grouped.group.tolist(), split.tolist(), grouped.bridge.tolist(), strict=True
    ):
        row.group = group
        if bridge:
            row.status, row.reason = "held_out", "bridge"
        else:
            row.split = SPLITS[its_split]


def _settled(parent: Snapshot | None) -> dict[str, Row]:
    """Pixels → the parent's row that has a place for good."""
    if parent is None:
        return {}
    return {
        parent.contents.pixels[row.content]: row
        for row in parent.rows.values()
        if row.status in {"accepted", "held_out"}
    }
