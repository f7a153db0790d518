"""Which examples make a batch, grouped by length, and how a batch is divided among ranks and micro-batches."""

import math
import random
from collections.abc import Sequence

from src.train.settings import Optimization

GROUP = 4096
"""Examples that are sorted by length together: long enough for little padding, short enough to stay random."""


def batches(
    lengths: Sequence[int], rng: random.Random, batch_tokens: int | None = None, batch_size: int | None = None
) -> list[list[int]]:
    """One epoch: indices of the examples of each batch, in random order.

    lengths: tokens of each example. A batch holds at most `batch_tokens` tokens, padding included (at least one
    example), or `batch_size` examples.
    """
    order = list(range(len(lengths)))
    rng.shuffle(order)
    made: list[list[int]] = []
    for start in range(0, len(order), GROUP):
        batch: list[int] = []
        for i in sorted(order[start : start + GROUP], key=lambda i: lengths[i]):
            over = batch_tokens is not None and lengths[i] * (len(batch) + 1) > batch_tokens
            if batch and (over or len(batch) == batch_size):
                made.append(batch)
                batch = []
            batch.append(i)
        if batch:
            made.append(batch)
    rng.shuffle(made)
    return made


def plan(lengths: Sequence[int], settings: Optimization, stage: str) -> list[list[int]]:
    """The batches of all epochs, in the order in which they are trained on; the stage's name is part of the seed."""
    rng = random.Random(f"{settings.seed}-{stage}-batches")
    return [
        batch
        for _ in range(settings.epochs)
        for batch in batches(lengths, rng, settings.batch_tokens, settings.batch_size)
    ]


def micro_batches(batch: Sequence[int], rank: int, world: int, micro: int | None) -> list[Sequence[int]]:
    """A rank's share of a batch in parts of at most `micro` examples; as many parts on every rank, so that some may be
    empty."""
    share = batch[rank::world]
    size = micro or len(batch)
    count = math.ceil(len(batch[::world]) / size)
    return [share[i * size : (i + 1) * size] for i in range(count)]
