"""How fast images come in: ingest and preprocess together, against a plain loop that decodes and hashes with Pillow.

Claim: 70,000 grey 28x28 PNGs on 2 cores at 1,500 images a second or more, ingest and preprocess together. Conditions:
local disk, warm page cache, empty file store; the peer is one process that reads, decodes (Pillow) and hashes (sha256) the
same files and does nothing else: no strict check, no second decoder, no perceptual hash, no packs, no manifest, no shards.

    python benchmarks/ingest.py [--images 70000] [--rounds 3] [--workers 2]
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
from components.common.runs import output_of
from components.common.step import execute
from components.common.store import open_store
from components.ingest import run as ingest
from components.ingest.config import IngestConfig
from components.preprocess import run as preprocess
from components.preprocess.config import PreprocessConfig

CLAIM = 1500.0


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


def run_ingest(folder: Path, store: Path, workers: int) -> None:
    config = IngestConfig(source=str(folder), num_workers=workers)
    execute(
        ingest, config, ingest.Inputs(), open_store(str(store)), make_reporter(quiet=True), run_id="bench"
    )


def run_preprocess(store: Path, workers: int) -> None:
    opened = open_store(str(store))
    snapshot = output_of(opened, "bench", "ingest")
    inputs = preprocess.Inputs.model_validate({"snapshot": snapshot})
    execute(preprocess, PreprocessConfig(num_workers=workers), inputs, opened, make_reporter(quiet=True))


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=70_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    args = parser.parse_args()
    names = (
        "plain Pillow loop, 1 process",
        f"ingest, {args.workers} workers",
        f"preprocess, {args.workers} workers",
    )
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    with tempfile.TemporaryDirectory(prefix="conveyor-bench-") as temp:
        folder = Path(temp) / "images"
        make_images(folder, args.images)
        for i in range(args.rounds):  # interleaved: a busy machine slows all
            store = Path(temp) / f"store{i}"
            works = (
                partial(plain_loop, folder),
                partial(run_ingest, folder, store, args.workers),
                partial(run_preprocess, store, args.workers),
            )
            for name, work in zip(names, works, strict=True):
                times[name].append(timed(work))
    for name, measured in times.items():
        tell(
            name,
            [args.images / wall for wall, _ in measured],
            [1e6 * cpu / args.images for _, cpu in measured],
        )
    plain, first, second = times.values()
    both = [(a[0] + b[0], a[1] + b[1]) for a, b in zip(first, second, strict=True)]
    rates = [args.images / wall for wall, _ in both]
    tell("ingest and preprocess together", rates, [1e6 * cpu / args.images for _, cpu in both])
    ratio = [p[0] / o[0] for p, o in zip(plain, both, strict=True)]
    print(f"ratio of both together to the plain loop: {mean(ratio):.2f} in wall time")
    holds = mean(rates) >= CLAIM
    print(f"claim: {'holds' if holds else 'does not hold'}", file=sys.stderr)
    return 0 if holds else 1


def tell(name: str, rates: list[float], each: list[float]) -> None:
    spread = f" ± {stdev(rates):,.0f}" if len(rates) > 1 else ""
    print(f"{name:32} {mean(rates):8,.0f}{spread} images/s   {mean(each):6.0f} µs CPU an image")


if __name__ == "__main__":
    sys.exit(main())
