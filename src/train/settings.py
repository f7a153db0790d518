"""The settings of the training loop, and their checks. Imports no torch: a plan is checked with them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

from src.checks import positive, require, share

if TYPE_CHECKING:
    import torch

OWN_DEEPSPEED_KEYS = (
    "train_batch_size", "train_micro_batch_size_per_gpu", "gradient_accumulation_steps", "gradient_clipping",
    "optimizer", "scheduler", "steps_per_print",
)  # fmt: skip
"""What the training loop decides by itself: DeepSpeed must not do it a second time."""

Average = Literal["tokens", "examples", "ranks"]
"""Of what the loss of a batch is the mean (src/train/averaging.py)."""
AVERAGES: tuple[Average, ...] = get_args(Average)


@dataclass(frozen=True, kw_only=True)
class Optimization:
    """AdamW, its schedule, and how examples make batches."""

    lr: float
    epochs: int
    warmup_ratio: float
    min_lr_ratio: float
    """Where the cosine ends, as a share of `lr`."""
    weight_decay: float
    betas: tuple[float, float]
    max_grad_norm: float
    max_length: int
    """Tokens of the longest example."""
    seed: int
    too_long: Literal["drop", "cut"] = "drop"
    """What becomes of longer examples. drop: they are left out; cut: their first `max_length` tokens are trained on,
    as in TRL. Both are counted."""
    loss_average: Average = "tokens"
    """tokens: every learned token of a batch weighs the same; examples: every example does, the mean of its tokens'
    losses; ranks: every rank does, the mean over the tokens of its share. It decides how much short answers weigh."""
    batch_tokens: int | None = None
    """Tokens a batch, padding included; null where batch_size says it."""
    batch_size: int | None = None
    """Examples a batch; null where batch_tokens says it."""
    ranks: int = 1
    """Processes that train together. Part of the fingerprint: their sums round differently."""
    deepspeed: Mapping[str, Any] = field(default_factory=dict)
    """DeepSpeed's own configuration: ZeRO stage, offload, precision."""
    micro_batch_size: int | None = None
    """Examples in the memory of one process at a time; gradients of a batch are accumulated. null: all of its share."""
    gradient_checkpointing: bool = False
    """Activations are computed again in the backward pass: less memory, a third more time."""
    attention: Literal["sdpa", "eager", "flash_attention_2"] = "sdpa"
    """The implementation in transformers."""
    fused_loss: bool = False
    """Head and cross-entropy in one kernel of Liger (the package liger-kernel, on a GPU)."""

    def __post_init__(self) -> None:
        positive(self, "lr", "epochs", "max_length", "max_grad_norm", "ranks")
        require(self.ranks <= 4096, "ranks", self.ranks, "at most 4096")
        micro = self.micro_batch_size
        require(micro is None or micro > 0, "micro_batch_size", micro, "greater than 0, or null")
        share(self, "warmup_ratio", "min_lr_ratio")
        require(self.weight_decay >= 0, "weight_decay", self.weight_decay, "at least 0")
        good = len(self.betas) == 2 and all(0 <= beta < 1 for beta in self.betas)
        require(good, "betas", list(self.betas), "two numbers of at least 0 and below 1")
        given = [number for number in (self.batch_size, self.batch_tokens) if number is not None]
        one = len(given) == 1 and given[0] > 0
        right = "one positive number and one null"
        require(one, "batch_size and batch_tokens", [self.batch_size, self.batch_tokens], right)
        alone = self.loss_average == "ranks" and self.ranks == 1
        right = "tokens or examples with ranks=1: the mean over one rank is that over its tokens"
        require(not alone, "loss_average", self.loss_average, right)

    @property
    def zero_stage(self) -> int:
        """DeepSpeed's ZeRO stage: 0, no sharding, to 3."""
        stage: int = self.deepspeed.get("zero_optimization", {}).get("stage", 0)
        return stage

    @property
    def dtype(self) -> Any:
        """torch's type of the model's weights. In bfloat16 DeepSpeed keeps others in float32, which the optimizer
        updates."""
        import torch

        return torch.bfloat16 if self.deepspeed.get("bf16", {}).get("enabled") else torch.float32

    def optimizer_of(self, trained: "Mapping[str, torch.nn.Parameter]") -> "torch.optim.Optimizer":
        """AdamW. trained: name -> parameter."""
        import torch

        return torch.optim.AdamW(trained.values(), **self._adamw)

    @property
    def _adamw(self) -> dict[str, Any]:
        """Its arguments."""
        return {"lr": self.lr, "betas": tuple(self.betas), "weight_decay": self.weight_decay, "fused": True}


@dataclass(frozen=True, kw_only=True)
class Pretraining(Optimization):
    """How a base model is trained from scratch."""

    optimizer: Literal["adamw", "muon"] = "adamw"
    """muon: Muon for the matrices of the layers, AdamW for all else (src/train/muon.py)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        whole = self.zero_stage == 0 and not self.deepspeed.get("bf16", {}).get("enabled")
        right = "adamw where deepspeed is not zero0: Muon needs whole matrices in float32"
        require(self.optimizer == "adamw" or whole, "optimizer", self.optimizer, right)

    def optimizer_of(self, trained: "Mapping[str, torch.nn.Parameter]") -> "torch.optim.Optimizer":
        """The optimizer. Embeddings and head are not matrices of a layer."""
        if self.optimizer == "adamw":
            return super().optimizer_of(trained)
        from src.train.muon import Muon

        inside = {name for name, parameter in trained.items() if parameter.ndim == 2 and ".layers." in name}
        matrices = [parameter for name, parameter in trained.items() if name in inside]
        return Muon(matrices, [parameter for name, parameter in trained.items() if name not in inside], **self._adamw)
