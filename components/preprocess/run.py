"""preprocess: snapshot → shards."""

import os
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa

from components.common.canonical import Json, canonical_json
from components.common.pool import CrashPool
from components.common.refs import SPLITS, ShardsRef, SnapshotRef
from components.common.step import StepContext, StepInputs
from components.common.store.base import Store
from components.common.trees import Tree
from components.data.builds import library_versions
from components.data.index import INDEX_NAME, write_index
from components.preprocess.assemble import Spool, convert_round, index_table, write_round
from components.preprocess.config import PreprocessConfig
from components.preprocess.contact_sheet import choose_samples, draw_sheet
from components.preprocess.convert import Converter
from components.preprocess.deal import deal, rounds
from components.preprocess.geometry import choose_geometry
from components.preprocess.manifest import read_images
from components.preprocess.stats import class_weights, mean_and_std

NAME = "preprocess"


class Inputs(StepInputs):
    """What preprocess works on."""

    snapshot: SnapshotRef


def depends_on(_config: PreprocessConfig, _inputs: Inputs, _store: Store) -> dict[str, Json]:
    """The builds that decide what bytes come out."""
    return dict(library_versions("dali", "simplejpeg", "pillow", "pyarrow"))


def run(config: PreprocessConfig, inputs: Inputs, context: StepContext) -> ShardsRef:
    """Decode, resize and pack every accepted image; measure the training split."""
    snapshot, blobs, reporter = inputs.snapshot, context.blobs, context.reporter
    geometry = choose_geometry(config, snapshot)
    images = read_images(snapshot, blobs)
    shards = deal(images, geometry, config.shard_bytes)
    reporter.info(
        "preprocess: chosen from the data",
        image_size=geometry.image_size,
        stored_size=geometry.stored_size,
        channels=geometry.channels,
        format="raw" if geometry.raw else "jpeg",
        shards=len(shards),
    )

    sheet = choose_samples(images, len(snapshot.classes))
    spool = Spool(images, context.scratch, keep=[number for row in sheet.values() for number in row])
    workers = config.num_workers or len(os.sched_getaffinity(0))
    entries: dict[str, tuple[str, int]] = {}
    index: list[pa.Table] = []
    pool = CrashPool(Converter(geometry, config.jpeg_quality), workers, timeout_s=config.timeout_s)
    with pool, reporter.task("preprocess", total=len(images), unit="images") as task:
        for some in rounds(shards, config.scratch_bytes):
            with spool.round():
                convert_round(spool, some, pool, blobs, task)
                for shard, digest, size, places in write_round(spool, some, geometry, blobs):
                    entries[shard.name] = (digest, size)
                    extension = geometry.format(shard.split)
                    index.append(index_table(spool, shard, digest, size, places, extension))

    mean, std = mean_and_std(spool.sums, spool.squares, spool.num_pixels)
    reporter.info(
        "preprocess: measured on the training split",
        mean=" ".join(f"{value:.4f}" for value in mean),
        std=" ".join(f"{value:.4f}" for value in std),
    )
    training = images.label[images.split == 0]
    counts = np.bincount(training, minlength=len(snapshot.classes)).tolist()
    facts: dict[str, Any] = {
        "image_size": geometry.image_size,
        "stored_size": geometry.stored_size,
        "channels": geometry.channels,
        "mean": mean,
        "std": std,
        "splits": {name: int((images.split == number).sum()) for number, name in enumerate(SPLITS)},
        "class_counts": tuple(counts),
        "class_weights": class_weights(counts),
    }
    stats: dict[str, Any] = {
        **facts,
        "version": 1,
        "classes": snapshot.classes,
        "geometry": asdict(geometry),
    }
    entries["stats.json"] = blobs.put(canonical_json(stats))
    entries[INDEX_NAME] = blobs.put(write_index(index))
    entries["contact_sheet.png"] = blobs.put(draw_sheet(snapshot.classes, counts, sheet, spool.kept))
    return ShardsRef(
        tree=Tree.write(blobs, entries), snapshot=snapshot.tree, classes=snapshot.classes, **facts
    )
