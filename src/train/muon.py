"""Muon: momentum, orthogonalized, for the matrices inside a network; AdamW for all else.

Jordan et al., "Muon: An optimizer for hidden layers in neural networks" (2024, kellerjordan.github.io/posts/muon), with
the scale of Liu et al., "Muon is Scalable for LLM Training" (arXiv:2502.16982, section 2.2). torch.optim.Muon computes
the same in bfloat16, which takes twenty times as long on a CPU without such units; here it is the matrices' own type,
and matrices of one shape are taken together.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch

MOMENTUM = 0.95
ITERATIONS = 5
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
SMALL = 1e-7
RMS = 0.2
"""Root mean square of an update over its learning rate, about that of AdamW."""


def orthogonalized(matrices: torch.Tensor) -> torch.Tensor:
    """Matrices [count, rows, columns] with all singular values near 1 (0.68 to 1.13), and their own singular vectors.

    Five Newton-Schulz iterations x <- a x + b (x x') x + c (x x')^2 x, from x / |x|_F.
    """
    a, b, c = COEFFICIENTS
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    x = x / torch.linalg.matrix_norm(x, keepdim=True).clamp(min=SMALL)
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


class Muon(torch.optim.AdamW):
    """With momentum m <- 0.95 m + 0.05 g, in Nesterov's form u = 0.05 g + 0.95 m, a matrix is decayed as in AdamW and
    moves by -lr * 0.2 * sqrt(its larger side) * orthogonalized(u)."""

    def __init__(self, matrices: Sequence[torch.Tensor], others: Sequence[torch.Tensor], **settings: Any):
        """matrices: 2-dimensional. others: all that AdamW trains. settings: AdamW's; lr and weight_decay of both."""
        super().__init__([{"params": list(others)}, {"params": list(matrices)}], **settings)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step of all parameters that have a gradient. The matrices have none afterwards."""
        loss = None if closure is None else torch.enable_grad()(closure)()
        group = self.param_groups[1]
        shapes: dict[torch.Size, list[torch.Tensor]] = {}
        for matrix in group["params"]:
            if matrix.grad is not None:
                shapes.setdefault(matrix.shape, []).append(matrix)
        for shape, same in shapes.items():
            updates = orthogonalized(torch.stack([self._momentum(matrix) for matrix in same]))
            for matrix, update in zip(same, updates, strict=True):
                matrix.mul_(1 - group["lr"] * group["weight_decay"])
                matrix.add_(update, alpha=-group["lr"] * RMS * math.sqrt(max(shape)))
                matrix.grad = None  # AdamW passes over them
        super().step()
        return loss

    def _momentum(self, matrix: torch.Tensor) -> torch.Tensor:
        """The direction of a matrix, before it is orthogonalized."""
        assert matrix.grad is not None
        state = self.state[matrix]
        if not state:
            state.update(step=torch.zeros(()), momentum=torch.zeros_like(matrix))  # AdamW asks each state for its step
        momentum: torch.Tensor = state["momentum"].lerp_(matrix.grad, 1 - MOMENTUM)
        return matrix.grad.lerp(momentum, MOMENTUM)
