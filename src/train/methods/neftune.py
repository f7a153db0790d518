"""NEFTune: uniform noise on the embeddings while training (Jain et al. 2023, arXiv 2310.05914, algorithm 1).

Each element gets a number between -1 and 1 times alpha / sqrt(L d), for sequences of L tokens of d elements. L is the
padded length of the micro-batch. Batches are grouped by length, so that few tokens are padding. The code is that of
transformers.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from src.checks import require
from src.train.methods import Method

if TYPE_CHECKING:
    from torch.nn import Module


@dataclass(frozen=True)
class NEFTune(Method):
    alpha: float

    def __post_init__(self) -> None:
        require(self.alpha >= 0, "alpha", self.alpha, "at least 0")

    def attach(self, model: "Module") -> None:
        from transformers.integrations.neftune import activate_neftune

        activate_neftune(model, self.alpha)
