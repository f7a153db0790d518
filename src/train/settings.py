"""How a model is trained: the settings of the loop and their checks. Imports no torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from src.model.settings import require

if TYPE_CHECKING:
    import torch

ATTENTION = ("sdpa", "eager", "flash_attention_2")
OWN_DEEPSPEED_KEYS = (
    "train_batch_size", "train_micro_batch_size_per_gpu", "gradient_accumulation_steps", "gradient_clipping",
    "optimizer", "scheduler", "steps_per_print",
)  # fmt: skip
"""What the loop decides by itself: DeepSpeed must not do it a second time."""


@dataclass(frozen=True)
class Optimization:
    """AdamW, its schedule, the batches, and how they are computed.

    Raises ValueError, one line that begins with the setting's name.
    """

    lr: float
    epochs: int
    warmup_ratio: float
    min_lr_ratio: float
    """Where the cosine ends, as a share of `lr`."""
    weight_decay: float
    betas: Sequence[float]
    max_grad_norm: float
    batch_tokens: int | None
    """Tokens of a batch, padding included; None where `batch_size` says it."""
    batch_size: int | None
    """Examples of a batch; None where `batch_tokens` says it."""
    max_length: int
    """Longer examples are dropped and counted."""
    seed: int
    ranks: int
    """Processes that train together. Their sums round differently from one process's."""
    deepspeed: Mapping[str, Any] = field(default_factory=dict)
    """DeepSpeed's own configuration: ZeRO stage, offload, precision."""
    micro_batch_size: int | None = None
    """Examples that one rank has in memory at a time; None: all of its share of a batch."""
    gradient_checkpointing: bool = False
    """Activations are computed again in the backward pass: less memory, a third more time."""
    attention: str = "sdpa"
    """The implementation in transformers: sdpa, eager or flash_attention_2."""
    fused_loss: bool = False
    """Head and cross-entropy in one kernel of Liger (the package liger-kernel, on a GPU)."""

    def __post_init__(self) -> None:
        for name in ("lr", "epochs", "max_grad_norm", "max_length", "ranks"):
            require(getattr(self, name) > 0, name, getattr(self, name), "greater than 0")
        for name in ("warmup_ratio", "min_lr_ratio"):
            require(0 <= getattr(self, name) <= 1, name, getattr(self, name), "between 0 and 1")
        require(self.weight_decay >= 0, "weight_decay", self.weight_decay, "at least 0")
        good = len(self.betas) == 2 and all(0 <= beta < 1 for beta in self.betas)
        require(good, "betas", list(self.betas), "two numbers of at least 0 and below 1")
        sizes = [self.batch_size, self.batch_tokens]
        given = [number for number in sizes if number is not None]
        one = len(given) == 1 and given[0] > 0
        require(one, "batch_size and batch_tokens", sizes, "one positive number and one null")
        micro = self.micro_batch_size
        require(micro is None or micro > 0, "micro_batch_size", micro, "greater than 0, or null")
        require(self.attention in ATTENTION, "attention", self.attention, "one of " + ", ".join(ATTENTION))
        for key in OWN_DEEPSPEED_KEYS:
            known = self.deepspeed.get(key)
            require(key not in self.deepspeed, f"deepspeed.{key}", known, "left out: the training loop sets it")

    @property
    def dtype(self) -> "torch.dtype":
        """The type of the model's weights. In bfloat16, DeepSpeed updates a copy of the trained ones in float32."""
        import torch

        return torch.bfloat16 if self.deepspeed.get("bf16", {}).get("enabled") else torch.float32

    @property
    def zero_stage(self) -> int:
        """The ZeRO stage: 0, no sharding, to 3."""
        stage: int = self.deepspeed.get("zero_optimization", {}).get("stage", 0)
        return stage
