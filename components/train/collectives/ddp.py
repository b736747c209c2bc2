"""The ranks joined by torch.distributed: Gloo on CPUs, NCCL on GPUs."""

from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

from components.train.collectives.base import Collective

TIMEOUT = timedelta(minutes=10)


class Ddp(Collective):
    """`init_method` is a file of the launcher's scratch folder on one machine, or a `tcp://` address."""

    def __init__(self, *, rank: int, local_rank: int, world_size: int, init_method: str) -> None:
        # Both backends at once: statistics of the validation are reduced on the CPU.
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        dist.init_process_group(
            backend, init_method=init_method, rank=rank, world_size=world_size, timeout=TIMEOUT
        )
        self.rank, self.local_rank, self.world_size = rank, local_rank, world_size

    def all_reduce_sum_(self, tensor: Tensor) -> None:
        dist.all_reduce(tensor, op=dist.ReduceOp.SUM)

    def broadcast_(self, tensor: Tensor) -> None:
        dist.broadcast(tensor, src=0)

    def barrier(self) -> None:
        dist.barrier()

    def close(self) -> None:
        dist.destroy_process_group()
