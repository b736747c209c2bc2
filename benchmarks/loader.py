"""Claim: the DALI loader hands out at least 1.5 times as many images per core as torchvision's DataLoader.

Both do the same work on the same JPEG bytes: decode, random resized crop to 224, flip, normalise, float32 batches of 64.
Ours reads shards (shorter side 256, made by preprocess from pictures that this script draws) through
`open_training_loader`; the peer reads the very same files, one a sample, through `torch.utils.data.DataLoader` with
torchvision's transforms over Pillow, as its own documentation does. Counted is CPU time, worker processes included, so
that neither cores nor neighbours matter; one thread or one process each. After a warm-up the two take turns, `--repeats`
times, and the ratio's mean and spread are printed, as are images per second of one core.

    python benchmarks/loader.py [--repeats 5] [--images 384]
"""

import argparse
import io
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import psutil
import torch
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from components.common.blobs import Blobs
from components.common.progress import make_reporter
from components.common.refs import ShardsRef
from components.common.step import execute
from components.common.store import Store, open_store
from components.common.torchvision_compat import import_torchvision
from components.data.augment import AugmentConfig
from components.data.index import read_index
from components.data.loaders import open_training_loader
from components.preprocess import run as preprocess
from components.preprocess.config import PreprocessConfig
from support.images import synthetic_image
from support.snapshots import Item, write_snapshot

BATCH = 64
SCALE = (0.25, 1.0)
CLAIM = 1.5


def make_shards(store: Store, num_images: int) -> ShardsRef:
    """Colour JPEGs of some 300 to 400 pixels a side, preprocessed as usual."""
    items = []
    for number in range(num_images):
        pixels = synthetic_image(number % 3, number, size=((300, 360), (400, 480)))
        sink = io.BytesIO()
        Image.fromarray(pixels).save(sink, "JPEG", quality=92)
        items.append(Item(sink.getvalue(), number % 3, "train"))
    snapshot = write_snapshot(Blobs(store), items, ["a", "b", "c"], channels=3, median=(330, 440))
    inputs = preprocess.Inputs(snapshot=snapshot)
    shards = execute(preprocess, PreprocessConfig(), inputs, store, make_reporter(quiet=True)).output
    assert isinstance(shards, ShardsRef)
    return shards


def write_files(shards: ShardsRef, blobs: Blobs, folder: Path) -> list[Path]:
    """The stored JPEGs, one a file."""
    index = read_index(shards, blobs, "train")
    paths = []
    for shard, offset, length, key in zip(index.shard, index.offset, index.length, index.key, strict=True):
        path = folder / f"{key}.jpg"
        with blobs.open(index.shards[shard].digest, int(offset), int(length)) as stream:
            path.write_bytes(stream.read())
        paths.append(path)
    return paths


class Files(torch.utils.data.Dataset[Any]):
    """What torchvision's ImageFolder does, without the folders."""

    def __init__(self, paths: list[Path], transform: Callable[[Image.Image], torch.Tensor]) -> None:
        self._paths, self._transform = paths, transform

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, number: int) -> tuple[torch.Tensor, int]:
        with self._paths[number].open("rb") as file:
            return self._transform(Image.open(file).convert("RGB")), 0


@contextmanager
def ours(shards: ShardsRef, blobs: Blobs, num_steps: int) -> Iterator[Iterator[torch.Tensor]]:
    augmentation = AugmentConfig(scale=SCALE, brightness=0.0, contrast=0.0, saturation=0.0)
    with open_training_loader(
        shards,
        blobs,
        augmentation=augmentation,
        seed=0,
        global_batch=BATCH,
        rank=0,
        world_size=1,
        start_step=0,
        stop_step=num_steps,
        backend="dali",
        num_threads=1,
    ) as batches:
        yield (batch.images for batch in batches)


@contextmanager
def peer(
    paths: list[Path], shards: ShardsRef, num_steps: int, num_workers: int
) -> Iterator[Iterator[torch.Tensor]]:
    import_torchvision()
    from torchvision import transforms

    transform = transforms.Compose(
        [
            transforms.RandomResizedCrop(224, scale=SCALE),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(shards.mean, shards.std),
        ]
    )
    loader = torch.utils.data.DataLoader(
        Files(paths, transform),
        batch_size=BATCH,
        shuffle=True,
        drop_last=True,
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
    )

    def batches() -> Iterator[torch.Tensor]:
        done = 0
        while done < num_steps:
            for images, _ in loader:
                yield images
                done += 1
                if done == num_steps:
                    return

    yield batches()


def cpu_seconds() -> float:
    """Of this process and the ones below it."""
    me = psutil.Process()
    times = [process.cpu_times() for process in (me, *me.children(recursive=True))]
    return sum(each.user + each.system for each in times)


def measure(batches: Iterator[torch.Tensor], warm: int, num_steps: int) -> tuple[float, float]:
    """CPU and wall seconds an image, after `warm` batches."""
    for _ in range(warm):
        next(batches)
    cpu, wall = cpu_seconds(), time.perf_counter()
    for _ in range(num_steps):
        assert next(batches).shape == (BATCH, 3, 224, 224)
    num = num_steps * BATCH
    return (cpu_seconds() - cpu) / num, (time.perf_counter() - wall) / num


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--images", type=int, default=384)
    parser.add_argument("--steps", type=int, default=12, help="batches measured a repeat")
    parser.add_argument("--peer-workers", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        store = open_store(f"{scratch}/store")
        blobs = Blobs(store)
        shards = make_shards(store, args.images)
        folder = Path(scratch) / "files"
        folder.mkdir()
        paths = write_files(shards, blobs, folder)
        # Both work ahead by a few batches; warming up by as many keeps what was done before the clock started small.
        warm, total = 4, args.steps + 8
        rows = []
        for _ in range(args.repeats):
            with ours(shards, blobs, total) as batches:
                ours_cpu, _ = measure(batches, warm, args.steps)
            with peer(paths, shards, total, args.peer_workers) as batches:
                peer_cpu, _ = measure(batches, warm, args.steps)
            rows.append((ours_cpu, peer_cpu))
            print(
                f"ours {1 / ours_cpu:7.0f} img/s/core   torchvision {1 / peer_cpu:7.0f}   ratio {peer_cpu / ours_cpu:.2f}"
            )
    ratios = [theirs / mine for mine, theirs in rows]
    print(
        json.dumps(
            {
                "claim": f"ratio >= {CLAIM}",
                "ratio_mean": round(statistics.mean(ratios), 3),
                "ratio_min": round(min(ratios), 3),
                "ratio_max": round(max(ratios), 3),
                "ours_images_per_core_second": round(statistics.median(1 / mine for mine, _ in rows)),
                "torchvision_images_per_core_second": round(
                    statistics.median(1 / theirs for _, theirs in rows)
                ),
                "repeats": args.repeats,
                "holds": statistics.mean(ratios) >= CLAIM,
            }
        )
    )


if __name__ == "__main__":
    main()
