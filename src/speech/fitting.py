"""How the small networks of this package are trained."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn


class Schedule(Protocol):
    """How long a network is trained, and how fast."""

    @property
    def steps(self) -> int: ...

    @property
    def batch_size(self) -> int: ...

    @property
    def learning_rate(self) -> float: ...


def fit(
    network: nn.Module,
    lengths: Sequence[int],
    loss_of: Callable[[npt.NDArray[np.int64]], Tensor],
    config: Schedule,
    random: np.random.Generator,
    context: Any,
) -> None:
    """Train `network` in place for `config.steps` steps of AdamW; the learning rate falls to zero along a cosine.

    lengths: of the examples; loss_of: the loss on the examples of these indices.
    """
    optimizer = torch.optim.AdamW(network.parameters(), config.learning_rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, config.learning_rate, total_steps=config.steps, pct_start=min(0.05, 50 / config.steps)
    )
    for step, indices in enumerate(batches_of_similar_length(lengths, config.batch_size, config.steps, random)):
        loss = loss_of(indices)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 10 == 0:
            context.report(done=step, total=config.steps, loss=loss.item(), learning_rate=schedule.get_last_lr()[0])


def batches_of_similar_length(
    lengths: Sequence[int], size: int, steps: int, random: np.random.Generator, pool: int = 8
) -> Iterator[npt.NDArray[np.int64]]:
    """`steps` arrays of indices, each `size` drawn without replacement from `pool * size` neighbours in length, so that
    little of a batch is padding."""
    order = np.argsort(lengths, kind="stable")
    span = min(len(order), pool * size)
    for _ in range(steps):
        # Blocks overhang both ends, so that the shortest and the longest utterances come up as often as the others.
        middle = int(random.integers(0, len(order)))
        first = min(max(middle - span // 2, 0), len(order) - span)
        yield random.choice(order[first : first + span], min(size, span), replace=False)
