"""How fast ingest is: images per second and CPU per image, against a plain loop that decodes and hashes with Pillow.

Claim: 70,000 grey 28x28 PNGs on 2 cores at 2,500 images a second or more. Conditions: local disk, warm page cache, empty
file store; the peer is one process that reads, decodes (Pillow) and hashes (sha256) the same files and does nothing
else: no strict check, no second decoder, no perceptual hash, no packs, no manifest.

    python benchmarks/ingest.py [--images 20000] [--rounds 3] [--workers 2]
"""

import argparse
import hashlib
import io
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import mean, stdev

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from components.common.progress import make_reporter
from components.common.step import execute
from components.common.store import open_store
from components.ingest import run
from components.ingest.config import IngestConfig


def make_images(folder: Path, num: int) -> None:
    """Grey 28x28 PNGs of ten classes: coarse random light, so that no two are near each other."""
    rng = np.random.default_rng(0)
    for c in range(10):
        (folder / str(c)).mkdir(parents=True)
    for i in range(num):
        coarse = Image.fromarray(rng.integers(0, 255, (7, 7), np.uint8))
        coarse.resize((28, 28), Image.Resampling.BICUBIC).save(folder / str(i % 10) / f"{i:06d}.png")


def cpu_seconds() -> float:
    """Of this process and its ended children."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """(wall, CPU) seconds."""
    wall, cpu = time.perf_counter(), cpu_seconds()
    work()
    return time.perf_counter() - wall, cpu_seconds() - cpu


def plain_loop(folder: Path) -> None:
    for path in sorted(folder.rglob("*.png")):
        data = path.read_bytes()
        hashlib.sha256(data).hexdigest()
        with Image.open(io.BytesIO(data)) as image:
            image.convert("RGB").load()


def ingest(folder: Path, store: Path, workers: int) -> None:
    config = IngestConfig(source=str(folder), num_workers=workers)
    execute(run, config, run.Inputs(), open_store(str(store)), make_reporter(quiet=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="conveyor-bench-") as temp:
        folder = Path(temp) / "images"
        make_images(folder, args.images)
        plain, ours = [], []
        for i in range(args.rounds):  # interleaved: a busy machine slows both
            plain.append(timed(lambda: plain_loop(folder)))
            ours.append(timed(partial(ingest, folder, Path(temp) / f"store{i}", args.workers)))
    for name, times in (("plain Pillow loop, 1 process", plain), (f"ingest, {args.workers} workers", ours)):
        rates = [args.images / wall for wall, _ in times]
        each = [1e6 * cpu / args.images for _, cpu in times]
        spread = f" ± {stdev(rates):,.0f}" if len(rates) > 1 else ""
        print(f"{name:30} {mean(rates):8,.0f}{spread} images/s   {mean(each):6.0f} µs CPU an image")
    ratio = [p[0] / o[0] for p, o in zip(plain, ours, strict=True)]
    cpu = [p[1] / o[1] for p, o in zip(plain, ours, strict=True)]
    print(f"ratio of ingest to the plain loop: {mean(ratio):.2f} in wall time, {mean(cpu):.2f} in CPU time")


if __name__ == "__main__":
    main()
