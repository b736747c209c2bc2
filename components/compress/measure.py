"""Latency of the original network and of every candidate, on this machine, in the same rounds."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from components.common.canonical import Json
from components.compress.config import LatencyConfig
from components.models.latency import Latency, cpu_model, measure_interleaved
from components.models.onnx_predictor import OnnxPredictor

ORIGINAL = "original"
"""The uncompressed network in torch's eager mode, float32: what the ratios are against."""

BATCH_SIZES = (1, 32)


def measure(
    original: nn.Module,
    models: Mapping[str, OnnxPredictor],
    images: NDArray[np.float32],
    config: LatencyConfig,
    *,
    seconds: float,
) -> dict[str, dict[str, Latency]]:
    """Name → batch size (`batch_1`, `batch_32`) → latency. `images` [n, C, S, S] are real ones, n ≥ 1.

    `models` must have been made with `config.threads` threads; torch is given as many for the time of the measurement.
    Two thirds of `seconds` go to batch 1, by which the choice is made.
    """
    found: dict[str, dict[str, Latency]] = {name: {} for name in (ORIGINAL, *models)}
    threads = torch.get_num_threads()
    torch.set_num_threads(config.threads)
    try:
        for size in BATCH_SIZES:
            batch = np.ascontiguousarray(np.resize(images, (size, *images.shape[1:])))
            calls: dict[str, Callable[[], object]] = {ORIGINAL: _eager(original, batch)}
            calls |= {name: _onnx(model, batch) for name, model in models.items()}
            share = seconds * (2 / 3 if size == BATCH_SIZES[0] else 1 / 3)
            timed = measure_interleaved(calls, rounds=config.rounds, warmup=config.warmup, seconds=share)
            for name, latency in timed.items():
                found[name][f"batch_{size}"] = latency
    finally:
        torch.set_num_threads(threads)
    return found


def conditions(config: LatencyConfig) -> dict[str, Json]:
    """What a reader must know to judge the figures."""
    import onnxruntime

    return {
        "cpu": cpu_model(),
        "threads": config.threads,
        "rounds": config.rounds,
        "warmup": config.warmup,
        "onnxruntime": onnxruntime.__version__,
        "torch": torch.__version__,
    }


def to_value(latencies: Mapping[str, Mapping[str, Latency]]) -> dict[str, Json]:
    return {
        name: {size: latency.to_value() for size, latency in by_size.items()}
        for name, by_size in latencies.items()
    }


def _eager(model: nn.Module, batch: NDArray[np.float32]) -> Callable[[], Any]:
    images = torch.from_numpy(batch)
    model.eval()

    def call() -> Any:
        with torch.inference_mode():
            return model(images)

    return call


def _onnx(model: OnnxPredictor, batch: NDArray[np.float32]) -> Callable[[], Any]:
    return lambda: model(batch)
