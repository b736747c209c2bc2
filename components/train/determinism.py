"""Same inputs, same bits: pinned threads, deterministic kernels, and random numbers that depend on the step alone."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.utils.deterministic


@contextmanager
def deterministic(*, threads: int, device: str) -> Iterator[None]:
    """Run a block with pinned threads and deterministic kernels; what was set before is put back.

    On a GPU an operation without a deterministic kernel only warns: promise 4 is for CPUs.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    threads_before = torch.get_num_threads()
    mode_before = torch.are_deterministic_algorithms_enabled()
    warn_before = torch.is_deterministic_algorithms_warn_only_enabled()
    memory: Any = torch.utils.deterministic
    fill_before = memory.fill_uninitialized_memory
    random_before = torch.random.get_rng_state()
    torch.set_num_threads(threads)
    # torch.use_deterministic_algorithms() does just this, after a second of importing the compiler, for every worker.
    torch._C._set_deterministic_algorithms(True, warn_only=device == "cuda")
    memory.fill_uninitialized_memory = False
    try:
        yield
    finally:
        torch.set_num_threads(threads_before)
        torch._C._set_deterministic_algorithms(mode_before, warn_only=warn_before)
        memory.fill_uninitialized_memory = fill_before
        torch.random.set_rng_state(random_before)


def reseed(seed: int, step: int, rank: int, *, device: str) -> None:
    """Seed dropout and its like for one step, so that a resumed run draws what an uninterrupted one drew."""
    word = hashlib.blake2b(f"{seed}/{step}/{rank}".encode(), digest_size=7).digest()
    number = int.from_bytes(word, "little")
    torch.default_generator.manual_seed(number)
    if device == "cuda":
        torch.cuda.manual_seed(number)
