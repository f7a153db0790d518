"""A training step's settings, as far as they decide how much memory and time it takes."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from src.train.settings import Optimization

ELEMENT = {"bf16": 2, "fp16": 2, "fp32": 4}
"""Bytes of a number in each precision."""


@dataclass(frozen=True)
class Training:
    """The settings that the formulas of memory, hours and disk need."""

    batch: int
    """Examples on one GPU at a time: the micro-batch, however many of them make a step."""
    length: int
    """Tokens of an example, with padding."""
    gpus: int = 1
    zero_stage: int = 0
    precision: Literal["bf16", "fp16", "fp32"] = "bf16"
    gradient_checkpointing: bool = False
    offload_optimizer: bool = False
    offload_parameters: bool = False
    fused_loss: bool = False
    """Logits are made in chunks and not kept (Hsu et al. 2024, "Liger Kernel")."""
    teacher: bool = False
    """Each GPU also holds a frozen copy of the whole base model, as distillation from it does."""
    labelled: float = 1.0
    """Share of the tokens that have a label: logits are made for these alone."""
    accumulation: Literal["bf16", "fp16", "fp32"] | None = None
    """Type in which ZeRO adds up the gradients of micro-batches: DeepSpeed's data_types.grad_accum_dtype. None: that of
    the weights."""
    reduce_bucket: int = 5 * 10**8
    """Elements of ZeRO's buffers for gradients: DeepSpeed's reduce_bucket_size, and twice that with overlap_comm."""

    def __post_init__(self) -> None:
        if not 0 <= self.zero_stage <= 3:
            raise ValueError(f"zero_stage={self.zero_stage}: must be 0, 1, 2 or 3")
        if self.precision not in ELEMENT:
            raise ValueError(f"precision={self.precision}: must be one of {', '.join(ELEMENT)}")
        if not 0 < self.labelled <= 1:
            raise ValueError(f"labelled={self.labelled}: must be above 0 and at most 1")
        for name in ("batch", "length", "gpus"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: must be at least 1")
        if self.offload_optimizer and self.zero_stage == 0:
            raise ValueError("offload_optimizer=true: needs zero_stage 1, 2 or 3")
        if self.offload_parameters and self.zero_stage != 3:
            raise ValueError(f"offload_parameters=true: needs zero_stage=3, not {self.zero_stage}")

    @property
    def tokens(self) -> int:
        """Tokens on one GPU at a time."""
        return self.batch * self.length

    @property
    def labels(self) -> int:
        """Tokens on one GPU at a time that have a label."""
        return math.ceil(self.tokens * self.labelled)

    def on(self, gpus: int) -> "Training":
        """The same batch, shared out among another number of GPUs; never more of it on one than now."""
        share = math.ceil(self.batch * self.gpus / gpus)
        return replace(self, gpus=gpus, batch=min(self.batch, share))

    @property
    def element(self) -> int:
        """Bytes of a weight."""
        return ELEMENT[self.precision]

    @property
    def gradient(self) -> int:
        """Bytes of a gradient that is kept until the optimizer's step."""
        return ELEMENT[self.accumulation or self.precision] if self.zero_stage else self.element


def training(settings: Optimization, teacher: bool = False) -> Training:
    """What the settings of a stage come to on one GPU. teacher: whether its method compares with the base."""
    ranks, size, length = settings.ranks, settings.batch_size, settings.max_length
    share = math.ceil(size / ranks) if size else max(1, (settings.batch_tokens or 0) // (ranks * length))
    return Training(
        batch=min(settings.micro_batch_size or share, share),
        length=length,
        gpus=ranks,
        gradient_checkpointing=settings.gradient_checkpointing,
        fused_loss=settings.fused_loss,
        teacher=teacher,
        **sharding(settings.deepspeed),
    )


def sharding(deepspeed: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a Training that a configuration of DeepSpeed decides."""
    zero = deepspeed.get("zero_optimization", {})

    def offloaded(what: str) -> bool:
        return (zero.get(what) or {}).get("device", "none") != "none"

    stage = zero.get("stage", 0)
    bucket = int(zero.get("reduce_bucket_size", Training.reduce_bucket))
    overlapping = zero.get("overlap_comm", stage == 3)  # DeepSpeed then fills one while it sends the other
    enabled = [name for name in ("bf16", "fp16") if deepspeed.get(name, {}).get("enabled", False)]
    return {
        "zero_stage": stage,
        "precision": enabled[0] if enabled else "fp32",
        "accumulation": deepspeed.get("data_types", {}).get("grad_accum_dtype"),
        "offload_optimizer": offloaded("offload_optimizer"),
        "offload_parameters": offloaded("offload_param"),
        "reduce_bucket": 2 * bucket if overlapping else bucket,
    }
