"""torch's global state, pinned for a while: threads, seed, deterministic kernels."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.utils.deterministic


@contextmanager
def reproducible(*, threads: int, seed: int, device: str) -> Iterator[None]:
    """Within the block torch gives the same numbers in every process on machines of one kind; after it all is as
    before. On a GPU an operation that has no deterministic kernel only warns."""
    # cuBLAS reads it when it starts; without it deterministic matrix products raise.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    threads_before = torch.get_num_threads()
    mode = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    memory: Any = torch.utils.deterministic  # its one property is added at run time
    fill = memory.fill_uninitialized_memory
    gpus = list(range(torch.cuda.device_count())) if device == "cuda" else []
    with torch.random.fork_rng(devices=gpus):
        torch.set_num_threads(threads)
        # torch.use_deterministic_algorithms() does just this, after a second of importing the compiler.
        torch._C._set_deterministic_algorithms(True, warn_only=device == "cuda")
        memory.fill_uninitialized_memory = False
        try:
            torch.default_generator.manual_seed(seed)
            if gpus:
                torch.cuda.manual_seed_all(seed)
            yield
        finally:
            torch.set_num_threads(threads_before)
            torch._C._set_deterministic_algorithms(mode, warn_only=warn_only)
            memory.fill_uninitialized_memory = fill
