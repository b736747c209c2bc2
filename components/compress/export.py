"""torch → ONNX, and the proof that both say the same."""

import io
import warnings
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from components.compress.onnx_bytes import INPUT, OUTPUT, canonical_onnx

OPSET = 17
"""Has every operator that our networks need; newer ones shut older servers out."""

TOLERANCE = 1e-3
"""Largest difference of a logit, relative to the largest logit: some ten thousand roundings of float32."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far an exported network is from its original, on real images."""

    num_images: int
    max_difference: float
    """Largest absolute difference of a logit."""
    scale: float
    """Largest absolute logit of the original."""
    num_same_label: int

    @property
    def passed(self) -> bool:
        """Logits within the tolerance; a label may differ only where its image is a tie to that tolerance."""
        return bool(self.max_difference <= TOLERANCE * max(self.scale, 1.0))


def export(model: nn.Module, *, channels: int, image_size: int) -> bytes:
    """The network (on the CPU) as ONNX bytes: `images` float32 [batch, C, S, S] → `logits` [batch, K].

    Batch norms are folded into their convolutions. Equal networks give equal bytes. Uses torch's tracing exporter: the
    newer one (`dynamo=True`) gives the same graph ten times slower (3 s against 0.2 s here).
    """
    import onnx

    buffer = io.BytesIO()
    example = torch.zeros(2, channels, image_size, image_size)
    training = model.training
    with warnings.catch_warnings():
        # It says that it is deprecated, and warns of every shape that it takes as a constant.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model.eval(),
            (example,),
            buffer,  # type: ignore[arg-type]
            dynamo=False,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_axes={INPUT: {0: "batch"}, OUTPUT: {0: "batch"}},
            opset_version=OPSET,
            do_constant_folding=True,
        )
    model.train(training)
    return canonical_onnx(onnx.load_model_from_string(buffer.getvalue()))


def compare(expected: NDArray[np.float32], found: NDArray[np.float32]) -> Agreement:
    """Logits [n, K] of the original and of the export on the same images."""
    difference = np.abs(expected.astype(np.float64) - found)
    # A NaN anywhere must fail the check, and max would pass it over in some orders.
    worst = float(difference.max()) if np.isfinite(difference).all() else float("inf")
    return Agreement(
        num_images=len(expected),
        max_difference=worst,
        scale=float(np.abs(expected).max()),
        num_same_label=int((expected.argmax(axis=1) == found.argmax(axis=1)).sum()),
    )


def torch_logits(model: nn.Module, images: NDArray[np.float32]) -> NDArray[np.float32]:
    """What the network says in evaluation mode, without gradients."""
    training = model.training
    device = next(model.parameters()).device
    with torch.inference_mode():
        logits = model.eval()(torch.from_numpy(np.ascontiguousarray(images)).to(device)).float().cpu().numpy()
    model.train(training)
    return np.asarray(logits, dtype=np.float32)
