"""The ranks joined by Horovod (Sergeev and Del Balso 2018): Gloo on CPUs, NCCL where it was built with it."""

import horovod.torch as hvd
from torch import Tensor

from components.train.collectives.base import Collective


class Horovod(Collective):
    """Reads its place from the `HOROVOD_*` variables that the launcher set."""

    def __init__(self) -> None:
        hvd.init()
        self.rank, self.local_rank, self.world_size = hvd.rank(), hvd.local_rank(), hvd.size()

    def all_reduce_sum_(self, tensor: Tensor) -> None:
        # One name per size: Horovod caches a name's shape and warns when it changes.
        hvd.allreduce_(tensor, op=hvd.Sum, name=f"sum.{tensor.dtype}.{tensor.numel()}")

    def broadcast_(self, tensor: Tensor) -> None:
        hvd.broadcast_(tensor, root_rank=0, name=f"broadcast.{tensor.dtype}.{tensor.numel()}")

    def barrier(self) -> None:
        hvd.barrier()

    def close(self) -> None:
        hvd.shutdown()
