"""What is trained of a model: the settings and their checks. Imports no torch."""

from collections.abc import Sequence
from dataclasses import dataclass

PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""The linear layers of a Llama."""


@dataclass(frozen=True)
class Adapter:
    """A LoRA adapter, and the modules of the base that are trained in full beside it.

    Raises ValueError, one line that begins with the setting's name.
    """

    r: int
    alpha: float
    dropout: float
    target_modules: Sequence[str]
    full_modules: Sequence[str]
    """Modules trained in full wherever they stand: the embeddings and the head."""
    full_projections: Sequence[str]
    full_last_layers: int
    """How many of the last layers have their `full_projections` trained in full."""

    def __post_init__(self) -> None:
        for name in ("r", "alpha"):
            require(getattr(self, name) > 0, name, getattr(self, name), "greater than 0")
        require(0 <= self.dropout < 1, "dropout", self.dropout, "at least 0 and below 1")
        for setting in ("target_modules", "full_projections"):
            for name in getattr(self, setting):
                require(name in PROJECTIONS, setting, name, "out of " + ", ".join(PROJECTIONS))
        require(self.full_last_layers >= 0, "full_last_layers", self.full_last_layers, "at least 0")


def require(condition: bool, name: str, value: object, right: str) -> None:
    """Raise ValueError("<name> is <value>; it must be <right>") unless `condition` holds."""
    if not condition:
        raise ValueError(f"{name} is {value!r}; it must be {right}")
