"""From image files to labels: the preprocessing that a version carries, then its ONNX model."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from components.common.errors import StepError
from components.data.strict import MAX_PIXELS, BadImageError, check_image
from components.models.metrics import predict_labels, softmax
from components.models.onnx_predictor import OnnxPredictor, Provider
from components.models.spec import ModelSpec

NO_LABEL = -1


@dataclass(frozen=True)
class Predictions:
    """Answers to n images, in the order they were given."""

    labels: NDArray[np.int64]
    """[n]: index of the class; -1 where the image is bad."""
    probabilities: NDArray[np.float32]
    """[n, K]; zeros where the image is bad."""
    errors: dict[int, BadImageError] = field(default_factory=dict)
    """Position of each bad image → why it is bad."""


class Predictor:
    """A served model: encoded images in, labels and probabilities out.

    The pixels that it sees are those that evaluation saw, to the bit. Raises `StepError` where the ONNX file and the
    spec do not belong together.
    """

    def __init__(
        self,
        spec: ModelSpec,
        model: bytes | Path,
        *,
        threads: int = 1,
        provider: Provider = "cpu",
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        self.spec = spec
        self._model = OnnxPredictor(model, threads=threads, provider=provider)
        self._max_pixels = max_pixels
        size = spec.image_size
        outputs = self._model(np.zeros((1, spec.channels, size, size), dtype=np.float32)).shape[1]
        if outputs != len(spec.classes):
            raise StepError(
                "the model and its list of classes do not belong together",
                where=f"model {spec.model}",
                expected=f"{len(spec.classes)} outputs, one for each class",
                found=f"{outputs} outputs",
            )

    def predict(self, images: Sequence[bytes]) -> Predictions:
        """Classify encoded images. A bad one is reported in `errors` and does not disturb the others."""
        errors: dict[int, BadImageError] = {}
        for position, data in enumerate(images):
            try:
                check_image(data, max_pixels=self._max_pixels)
            except BadImageError as error:
                errors[position] = error
        good = [position for position in range(len(images)) if position not in errors]
        views = self._views(good, images, errors)
        labels = np.full(len(images), NO_LABEL, dtype=np.int64)
        probabilities = np.zeros((len(images), len(self.spec.classes)), dtype=np.float32)
        if views:
            rows = np.array(sorted(views))
            logits = self._model(np.concatenate([views[row] for row in rows]))
            labels[rows] = predict_labels(logits)
            probabilities[rows] = softmax(logits, self.spec.temperature)
        return Predictions(labels, probabilities, errors)

    def _views(
        self, rows: list[int], images: Sequence[bytes], errors: dict[int, BadImageError]
    ) -> dict[int, NDArray[np.float32]]:
        """Row → what the model sees of it [1, C, S, S]; one that the decoder refuses goes to `errors`."""
        if not rows:
            return {}
        try:
            views = self._decode([images[row] for row in rows])
        except (RuntimeError, ValueError) as error:  # DALI does not say which image it was
            if len(rows) == 1:
                detail = (str(error).strip().splitlines() or ["the decoder refused it"])[0][:200]
                errors[rows[0]] = BadImageError("corrupt", detail)
                return {}
            return {key: view for row in rows for key, view in self._views([row], images, errors).items()}
        return {row: views[i : i + 1] for i, row in enumerate(rows)}

    def _decode(self, encoded: list[bytes]) -> NDArray[np.float32]:
        from components.data.single import decode_and_resize, evaluation_view

        spec = self.spec
        arrays = decode_and_resize(
            encoded, stored_size=spec.stored_size, image_size=spec.image_size, channels=spec.channels
        )
        return evaluation_view(arrays, image_size=spec.image_size, mean=spec.mean, std=spec.std)
