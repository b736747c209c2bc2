"""DALI's decode, as training does it: the pixels that everything else is computed from."""

import re
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.common.errors import StepError

Pixels = NDArray[np.uint8]
MAX_BATCH = 256


class DaliDecoder:
    """Encoded images → uint8 RGB (height, width, 3) each, turned as their EXIF orientation says, alpha dropped."""

    def __init__(self) -> None:
        self._pipeline: Any = None
        self._batch: list[NDArray[np.uint8]] = []

    def _build(self) -> Any:
        try:
            dali: Any = import_module("nvidia.dali")  # its own types are incomplete
        except ImportError as error:
            raise StepError(
                "DALI is not installed, and ingest checks every image with it",
                found=str(error),
                todo="install the extra conveyor[data] (conveyor doctor says more)",
            ) from None
        fn, types = dali.fn, dali.types

        def decode() -> Any:
            encoded = fn.external_source(source=lambda: self._batch, batch=True, dtype=types.UINT8, ndim=1)
            return fn.decoders.image(encoded, device="cpu", output_type=types.RGB)

        define = dali.pipeline_def(
            batch_size=MAX_BATCH, num_threads=1, device_id=None, prefetch_queue_depth=1
        )
        pipeline = define(decode)()
        pipeline.build()
        return pipeline

    def decode(self, batch: Sequence[bytes]) -> list[Pixels | str]:
        """Pixels of each image, or the words with which DALI refused it. At most `MAX_BATCH` at once."""
        if not batch:
            return []
        try:
            return list(self._run(batch))
        except RuntimeError as error:
            # One bad sample fails the whole batch and ends the pipeline: halve until it stands alone.
            self._pipeline = None
            if len(batch) == 1:
                return [_last_words(error)]
            middle = len(batch) // 2
            return [*self.decode(batch[:middle]), *self.decode(batch[middle:])]

    def _run(self, batch: Sequence[bytes]) -> list[Pixels]:
        if self._pipeline is None:
            self._pipeline = self._build()
        self._batch = [np.frombuffer(data, np.uint8) for data in batch]
        (images,) = self._pipeline.run()
        # Copies: the buffers are DALI's and the next run reuses them.
        return [np.array(images.at(i)) for i in range(len(batch))]


def dali_version() -> str:
    """DALI's version without importing it (half a second); `none` where it is missing."""
    from importlib.metadata import distributions

    for found in distributions(path=sys.path):
        name = found.metadata["Name"] or ""
        if name.startswith("nvidia-dali-cuda"):
            return str(found.version)
    return "none"


def _last_words(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = [line for line in lines if "rror" in line and "Critical error in pipeline" not in line]
    # DALI begins with the place in its own source, which says nothing here.
    return re.sub(r"^\[[^\]]*\]\s*", "", (said or lines or ["DALI refused it"])[-1])[:300]
