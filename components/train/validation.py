"""Loss and accuracy on the validation split, shared out among the ranks."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F  # noqa: N812 - the field's own name for it
from torch import Tensor

from components.common.blobs import Blobs
from components.common.refs import ShardsRef
from components.data.cache import CacheConfig
from components.data.loaders import open_evaluation_loader
from components.train.collectives.base import Collective
from components.train.resolve import Placement
from components.train.state import TrainingState

BATCH_SIZE = 256
KEPT_BYTES = 256 << 20
"""Up to this much a rank keeps its decoded images: opening a loader each epoch costs more than a small split."""


class Validation:
    """Called after each epoch: (loss, accuracy) of the weights that would be the result, None without images."""

    def __init__(
        self,
        state: TrainingState,
        shards: ShardsRef,
        blobs: Blobs,
        placement: Placement,
        collective: Collective,
        cache: CacheConfig,
    ) -> None:
        self._state, self._shards, self._blobs = state, shards, blobs
        self._placement, self._collective, self._cache = placement, collective, cache
        self._num_images = shards.splits.get("val", 0)
        share = shards.channels * shards.image_size**2 * 4 * self._num_images // collective.world_size
        self._keeps = share <= KEPT_BYTES
        self._kept: list[tuple[Tensor, Tensor]] | None = None

    def __call__(self) -> tuple[float, float] | None:
        if not self._num_images:
            return None
        state, model = self._state, self._state.flat.model
        # The candidate weights take the place of the live ones, which come back bit for bit.
        held = state.flat.parameters.clone(), state.flat.buffers.clone()
        model.eval()
        try:
            with torch.inference_mode():
                for live, wanted in zip(
                    (state.flat.parameters, state.flat.buffers), state.candidate(), strict=True
                ):
                    live.copy_(wanted)
                sums = self._sums()
        finally:
            state.flat.parameters.copy_(held[0])
            state.flat.buffers.copy_(held[1])
            model.train()
        loss, correct, count = sums
        return loss / count, correct / count

    def _sums(self) -> list[float]:
        sums = torch.zeros(3, dtype=torch.float64)
        for images, labels in self._batches():
            logits = self._state.flat.model(images).float()
            sums[0] += F.cross_entropy(logits, labels, reduction="sum").item()
            sums[1] += (logits.argmax(dim=1) == labels).sum().item()
            sums[2] += len(labels)
        self._collective.all_reduce_sum_(sums)
        return sums.tolist()

    def _batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        if self._kept is not None:
            yield from self._kept
            return
        kept = []
        with open_evaluation_loader(
            self._shards,
            self._blobs,
            split="val",
            batch_size=BATCH_SIZE,
            backend=self._placement.backend,
            num_threads=self._placement.threads,
            cache=self._cache,
            rank=self._collective.rank,
            world_size=self._collective.world_size,
        ) as batches:
            device = self._state.flat.parameters.device
            for batch in batches:
                if not len(batch.labels):
                    continue
                pair = batch.images.to(device), batch.labels.to(device)
                if self._keeps:
                    kept.append(pair)
                yield pair
        if self._keeps:
            self._kept = kept
