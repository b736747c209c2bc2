"""What the ranks of one training do together: a small interface, and the names of the engines that fulfil it."""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import Tensor

Engine = Literal["inline", "horovod", "ddp"]

BUCKET_BYTES = 16 << 20
"""Reductions run over slices of this size, cut by position alone, so that the order of sums never depends on timing."""


class Collective(ABC):
    """One rank's place among all. Every rank makes the same calls in the same order, with tensors of equal shape."""

    rank: int
    local_rank: int
    """Among the ranks of this machine: which of its GPUs is this one's."""
    world_size: int

    @abstractmethod
    def all_reduce_sum_(self, tensor: "Tensor") -> None:
        """Replace a contiguous tensor by its sum over the ranks; all ranks get the same bits."""

    @abstractmethod
    def broadcast_(self, tensor: "Tensor") -> None:
        """Replace a contiguous tensor by rank 0's."""

    @abstractmethod
    def barrier(self) -> None:
        """Wait until every rank is here."""

    @abstractmethod
    def close(self) -> None:
        """Leave the group."""

    def reduce_buckets_(self, flat: "Tensor") -> None:
        """Sum a flat tensor over the ranks, bucket by bucket, one at a time."""
        if self.world_size == 1:
            return
        size = BUCKET_BYTES // flat.element_size()
        for start in range(0, flat.numel(), size):
            self.all_reduce_sum_(flat[start : start + size])
