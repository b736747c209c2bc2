"""Claim: the chosen compressed model answers one image at least 5 times as fast as the original in torch's eager mode on
the digits example, and at least 8 times as fast for ResNet-18 at 224 pixels; 2 threads each.

Both cases go through the real pipeline up to compress: the digits example with its defaults; for ResNet-18 a generated
data set (three classes of coloured stripes, 240 JPEGs of 256×256) and two epochs, since the latency of a network does not
depend on what it has learnt, and the choice must still be made within the allowed drop. Then the original (torch eager,
float32, inference_mode) and the chosen candidate (ONNX Runtime, CPU) are timed again in `--repeats` measurements of
interleaved rounds, warm, in this process; each measurement gives a ratio of medians. Their mean and spread are printed, for
one image and for 32.

    python benchmarks/compressed_latency.py [--only digits|resnet18] [--repeats 5] [--seconds 10] [--keep FOLDER]

Run it on a quiet machine. A store kept with --keep is reused: then only the timing is done again.
"""

import argparse
import colorsys
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from components.common.blobs import Blobs
from components.common.refs import CompressedRef, ModelRef, ShardsRef, parse_ref
from components.common.store import open_store
from components.compress.config import LatencyConfig
from components.compress.measure import ORIGINAL, measure
from components.data.loaders import open_evaluation_loader
from components.models.latency import Latency, cpu_model
from components.models.onnx_predictor import OnnxPredictor
from components.models.weights import load_model

ROOT = Path(__file__).resolve().parents[1]
Case = tuple[float, Callable[[Path], None], list[str]]


def digits(folder: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "pipelines.cli", "example", "digits", str(folder)], cwd=ROOT, check=True
    )


def stripes(folder: Path, *, per_class: int = 80, side: int = 256) -> None:
    """Three classes that differ in hue and direction, with enough noise that no two images are near."""
    generator = np.random.default_rng(0)
    y, x = np.mgrid[0:side, 0:side] / side
    for label in range(3):
        (folder / f"class_{label}").mkdir(parents=True)
        tint = np.array(colorsys.hsv_to_rgb(label / 3, 0.6, 1.0))
        for number in range(per_class):
            angle, phase = np.pi * label / 3 + generator.normal(0, 0.06), generator.random()
            waves = np.sin(2 * np.pi * (6 * (x * np.cos(angle) + y * np.sin(angle)) + phase))
            light = Image.fromarray(generator.random((5, 5)).astype(np.float32)).resize((side, side))
            grey = (
                0.5 + 0.2 * waves + 0.5 * (np.asarray(light) - 0.5) + generator.normal(0, 0.03, (side, side))
            )
            pixels = (np.clip(grey[..., None] * tint, 0, 1) * 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"class_{label}" / f"{number:03d}.jpg", quality=92)


CASES: dict[str, Case] = {
    "digits": (5.0, digits, []),
    "resnet18": (
        8.0,
        stripes,
        [
            "train.model=resnet18",
            "train.epochs=2",
            "train.batch_size=16",
            "preprocess.image_size=224",
            "compress.prune.epochs=3",
            "compress.prune.batch_size=16",
            "compress.prune.ratios=[0.5, 0.75]",
        ],
    ),
}


def make(name: str, folder: Path) -> tuple[CompressedRef, ModelRef, ShardsRef, Path]:
    """Run the pipeline up to compress; what it made, and its store."""
    _, write, settings = CASES[name]
    source, store = folder / f"{name}-images", folder / f"{name}-store"
    if not source.exists():
        write(source)
    command = [sys.executable, "-m", "pipelines.cli", "run", "--source", str(source), "--store", str(store)]
    command += ["--until", "compress", "--json", *(part for each in settings for part in ("--set", each))]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    steps = json.loads(done.stdout.splitlines()[-1])["steps"]
    refs: dict[str, Any] = {step: parse_ref(steps[step]["output"], where=step) for step in steps}
    return refs["compress"], refs["train"], refs["preprocess"], store


def ratios(name: str, folder: Path, *, repeats: int, seconds: float, threads: int) -> bool:
    """Time it, print it, and say whether the claim holds."""
    compressed, model, shards, place = make(name, folder)
    blobs = Blobs(open_store(str(place)))
    with open_evaluation_loader(shards, blobs, split="test", batch_size=32) as batches:
        images = np.asarray(next(batches).images)
    original = load_model(model, blobs)
    chosen = compressed.chosen_candidate()
    settings = LatencyConfig(threads=threads)
    found: list[dict[str, dict[str, Latency]]] = []
    for _ in range(repeats):
        predictor = OnnxPredictor(blobs.read(chosen.model), threads=threads)
        found.append(measure(original, {chosen.name: predictor}, images, settings, seconds=seconds))
    fp32 = compressed.candidates[0]
    print(f"\n{name}: {model.architecture} at {model.image_size}, {threads} threads, chosen {chosen.name}")
    print(f"  size {len(blobs.read(model.weights)):,} → {chosen.size_bytes:,} bytes")
    print(f"  accuracy on the test split {fp32.accuracy:.4f} → {chosen.accuracy:.4f}")
    means = {}
    for size in ("batch_1", "batch_32"):
        each = [f[ORIGINAL][size].p50_ms / f[chosen.name][size].p50_ms for f in found]
        old = statistics.median(f[ORIGINAL][size].p50_ms for f in found)
        new = statistics.median(f[chosen.name][size].p50_ms for f in found)
        means[size] = statistics.mean(each)
        spread = f"{min(each):.2f} to {max(each):.2f}"
        print(
            f"  {size:<8}  {old:9.3f} ms → {new:8.3f} ms   ratio {means[size]:6.2f}  ({spread} over {repeats})"
        )
    restless = max(f[n]["batch_1"].spread for f in found for n in f)
    print(f"  medians of rounds differ by up to {restless:.2f} times")
    claim = CASES[name][0]
    print(
        f"  claim: at least {claim:g} times at batch 1: {'holds' if means['batch_1'] >= claim else 'FAILS'}"
    )
    return means["batch_1"] >= claim


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=sorted(CASES))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=10.0, help="per measurement")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--keep", type=Path, help="folder for images and stores")
    given = parser.parse_args()
    print(f"CPU: {cpu_model()}")
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        held = [
            ratios(
                name, folder.resolve(), repeats=given.repeats, seconds=given.seconds, threads=given.threads
            )
            for name in CASES
            if given.only in (None, name)
        ]
    sys.exit(0 if all(held) else 1)


if __name__ == "__main__":
    main()
