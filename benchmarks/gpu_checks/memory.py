"""How much memory of the GPU something takes, and how long."""

import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from src.machine.memory import GIB


@dataclass
class Watch:
    """Filled when the watched part has ended; zeros without a GPU."""

    seconds: float = 0.0
    peak: float = 0.0
    """GiB of tensors at most."""
    device: float = 0.0
    """GiB of the GPU that this process had: its tensors, what the allocator keeps, CUDA's own."""


@contextmanager
def watch() -> Iterator[Watch]:
    """Watch what happens within it."""
    found = Watch()
    gpu = torch.cuda.is_available()
    free()
    if gpu:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    started = time.perf_counter()
    yield found
    if gpu:
        torch.cuda.synchronize()
        left, total = torch.cuda.mem_get_info()
        found.peak = torch.cuda.max_memory_allocated() / GIB
        own = total - left - torch.cuda.memory_reserved()
        found.device = (own + torch.cuda.max_memory_reserved()) / GIB
    found.seconds = time.perf_counter() - started


def free() -> None:
    """Let the GPU have back what nothing refers to any more. Without one nothing is done: collecting takes a second."""
    if torch.cuda.is_available():
        gc.collect()
        torch.cuda.empty_cache()


def allocated() -> float:
    """GiB of tensors on the GPU now."""
    return torch.cuda.memory_allocated() / GIB if torch.cuda.is_available() else 0.0
