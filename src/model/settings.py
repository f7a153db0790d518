"""The settings of the base model and of what is trained in it. Imports no torch: a plan is checked with them."""

from dataclasses import dataclass

from src.checks import positive, require

PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""The linear layers of a Llama."""


@dataclass(frozen=True, kw_only=True)
class Adapter:
    """What is trained: a LoRA adapter, and modules of the base in full (src/model/adapter.py)."""

    r: int
    alpha: float
    dropout: float
    target_modules: tuple[str, ...]
    full_modules: tuple[str, ...]
    """Modules trained in full wherever they stand: the embeddings and the head."""
    full_projections: tuple[str, ...]
    full_last_layers: int
    """How many of the last layers have their `full_projections` trained in full."""

    def __post_init__(self) -> None:
        positive(self, "r", "alpha")
        require(0 <= self.dropout < 1, "dropout", self.dropout, "at least 0 and below 1")
        for setting in ("target_modules", "full_projections"):
            for name in getattr(self, setting):
                require(name in PROJECTIONS, setting, name, "out of " + ", ".join(PROJECTIONS))
        require(self.full_last_layers >= 0, "full_last_layers", self.full_last_layers, "at least 0")
