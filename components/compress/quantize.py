"""Static int8 quantization of an ONNX network by ONNX Runtime: QDQ nodes, weights per channel."""

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from components.compress.onnx_bytes import INPUT, canonical_onnx

BATCH = 8
"""Images per calibration run: every activation of the network is kept for so many at once."""


def quantize(
    model: bytes,
    images: NDArray[np.float32],
    *,
    weight_range: Literal["full", "reduced"],
    scratch: Path,
) -> bytes:
    """The int8 twin of an fp32 network, calibrated on `images` [n, C, S, S] (smallest and largest activation seen).

    Activations become unsigned, weights signed and per output channel. With `reduced` weights use 7 bits: AVX2 and
    AVX-512 without VNNI add pairs of products in 16 bits and saturate in silence otherwise. That is a setting and not a
    look at this machine's CPU, since the result must not depend on where it was made, nor be wrong where it is served.

    Deterministic; `scratch` is a folder for files in between. Source: Jacob et al. 2018 (arXiv 1712.05877).
    """
    import onnx
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    plain, prepared, quantized = (scratch / f"{name}.onnx" for name in ("fp32", "prepared", "int8"))
    plain.write_bytes(model)
    with _quiet():
        # Symbolic inference is for shapes that data decide; ours are fixed but for the batch.
        quant_pre_process(str(plain), str(prepared), skip_symbolic_shape=True)
        quantize_static(
            str(prepared),
            str(quantized),
            _reader(images),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            reduce_range=weight_range == "reduced",
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
            calibration_providers=["CPUExecutionProvider"],
        )
    data = canonical_onnx(onnx.load_model(str(quantized), load_external_data=False))
    for path in (plain, prepared, quantized):
        path.unlink(missing_ok=True)
    return data


def _reader(images: NDArray[np.float32]) -> Any:
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        """Hands out the images in batches, in order."""

        def __init__(self, batches: Iterable[NDArray[np.float32]]) -> None:
            self._batches = iter(batches)

        def get_next(self) -> dict[str, NDArray[np.float32]] | None:
            batch = next(self._batches, None)
            return None if batch is None else {INPUT: batch}

    return Reader(images[start : start + BATCH] for start in range(0, len(images), BATCH))


@contextmanager
def _quiet() -> Iterator[None]:
    """The quantizer logs advice through the root logger, past every reporter."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
