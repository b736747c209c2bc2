"""The engine for one process alone."""

from typing import TYPE_CHECKING

from components.train.collectives.base import Collective

if TYPE_CHECKING:
    from torch import Tensor


class Inline(Collective):
    """One process alone."""

    rank = local_rank = 0
    world_size = 1

    def all_reduce_sum_(self, tensor: "Tensor") -> None:
        """The sum over one rank."""

    def broadcast_(self, tensor: "Tensor") -> None:
        """Rank 0 is the only one."""

    def barrier(self) -> None:
        """Nobody to wait for."""

    def close(self) -> None:
        """No group to leave."""
