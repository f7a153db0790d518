"""Which examples make a batch: grouped by length, within a number of tokens or of examples."""

import random
from collections.abc import Sequence

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
