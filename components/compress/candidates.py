"""Making the candidates: a network as fp32 ONNX, proven against torch, and its int8 twin."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from torch import nn

from components.common.errors import ConveyorError, StepError
from components.common.progress import Reporter
from components.compress.config import QuantizeConfig
from components.compress.export import TOLERANCE, Agreement, compare, export, torch_logits
from components.compress.prune import num_parameters
from components.compress.quantize import quantize
from components.models.metrics import predict_labels
from components.models.onnx_predictor import OnnxPredictor

FP32: Final = "fp32"
INT8: Final = "int8"
CHECK_IMAGES = 32


@dataclass
class Made:
    """A candidate while it is being judged."""

    name: str
    model: bytes
    precision: Literal["fp32", "int8"]
    pruned: float
    num_parameters: int
    agreement: Agreement
    """With the torch network that it was exported from."""
    num_right: dict[str, int] = field(default_factory=dict)
    """Split → images classified rightly."""


def name_of(precision: str, ratio: float | None) -> str:
    """`fp32`, `int8-pruned-50`, `fp32-pruned-87.5`."""
    return precision if ratio is None else f"{precision}-pruned-{100 * ratio:g}"


@dataclass(frozen=True)
class Workshop:
    """Turns torch networks into candidates, with the same calibration images for all."""

    images: NDArray[np.float32]
    """[n, C, S, S]: training images without augmentation, for calibration and for the numerical check."""
    quantize: QuantizeConfig
    threads: int
    scratch: Path
    reporter: Reporter
    dropped: dict[str, str] = field(default_factory=dict)
    """Candidates that could not be made → why."""

    def make(self, network: nn.Module, *, ratio: float | None, pruned: float) -> list[Made]:
        """The fp32 candidate of a network and its int8 twin; what cannot be made is left out with a warning.

        Raises `StepError` where the unpruned network cannot be exported faithfully: there is nothing to serve then.
        """
        fp32 = name_of(FP32, ratio)
        expected = torch_logits(network, self.images[:CHECK_IMAGES])
        try:
            model = export(network, channels=self.images.shape[1], image_size=self.images.shape[2])
            agreement = self._agreement(expected, model)
            if not agreement.passed:
                raise StepError(
                    "the exported network says something else than the original",
                    expected=f"logits within {TOLERANCE:g} of the largest ({agreement.scale:.3g})",
                    found=f"a difference of {agreement.max_difference:.3g}",
                )
        except Exception as error:
            if ratio is None:
                raise _export_failed(error) from error
            self.drop(fp32, error)
            return []
        num = num_parameters(network)
        made = [Made(fp32, model, FP32, pruned, num, agreement)]
        if self.quantize.enabled:
            int8 = name_of(INT8, ratio)
            try:
                twin = quantize(
                    model, self.images, weight_range=self.quantize.weight_range, scratch=self.scratch
                )
                made.append(Made(int8, twin, INT8, pruned, num, self._agreement(expected, twin)))
            except Exception as error:  # noqa: BLE001 - the quantizer does not know every operator; the rest goes on
                self.drop(int8, error)
        return made

    def drop(self, name: str, error: BaseException) -> None:
        """Note that a candidate is left out."""
        reason = error.what if isinstance(error, ConveyorError) else f"{type(error).__name__}: {error}"
        reason = reason.strip().splitlines()[0][:200]
        self.dropped[name] = reason
        self.reporter.warning(f"compress: the candidate {name} is left out", reason=reason)

    def _agreement(self, expected: NDArray[np.float32], model: bytes) -> Agreement:
        return compare(expected, OnnxPredictor(model, threads=self.threads)(self.images[:CHECK_IMAGES]))


def count_right(models: Mapping[str, OnnxPredictor], batches: Iterable[Any]) -> tuple[dict[str, int], int]:
    """How many images of a split each model classifies rightly, and how many there are; one pass for all models."""
    right = dict.fromkeys(models, 0)
    num_images = 0
    for batch in batches:
        images, labels = np.asarray(batch.images), np.asarray(batch.labels)
        num_images += len(labels)
        for name, model in models.items():
            right[name] += int((predict_labels(model(images)) == labels).sum())
    return right, num_images


def _export_failed(error: Exception) -> StepError:
    if isinstance(error, StepError):
        return error
    return StepError(
        "the trained network cannot be exported to ONNX",
        found=f"{type(error).__name__}: {str(error).strip().splitlines()[0][:300] if str(error) else ''}",
        todo="train another architecture (resnet18 and lenet are known to work)",
    )
