"""How exactly a speech model computes: the setting `dtype` of the encoder and of Whisper."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


def weights(dtype: str) -> torch.dtype:
    """The type of weights and activations; "tf32" has those of float32."""
    found: torch.dtype = getattr(torch, "float32" if dtype == "tf32" else dtype)
    return found


@contextmanager
def products(dtype: str) -> Iterator[None]:
    """Within it, a GPU's matrix products of float32 numbers round these to 10 bits where dtype is "tf32" (as torch lets
    convolutions do anyway): several times as fast from compute capability 8.0 on. A CPU rounds nothing."""
    matmul = torch.backends.cuda.matmul
    before = matmul.fp32_precision
    if dtype == "tf32":
        matmul.fp32_precision = "tf32"
    try:
        yield
    finally:
        matmul.fp32_precision = before
