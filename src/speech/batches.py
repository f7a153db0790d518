"""Training batches of utterances of about the same length, so that little of a batch is padding."""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt


def batches_of_similar_length(
    lengths: Sequence[int], size: int, steps: int, random: np.random.Generator, pool: int = 8
) -> Iterator[npt.NDArray[np.int64]]:
    """`steps` arrays of indices: each time `size` drawn without replacement from `pool * size` neighbours in length."""
    order = np.argsort(lengths, kind="stable")
    span = min(len(order), pool * size)
    for _ in range(steps):
        # Blocks overhang both ends, so that the shortest and the longest utterances come up as often as the others.
        middle = int(random.integers(0, len(order)))
        first = min(max(middle - span // 2, 0), len(order) - span)
        yield random.choice(order[first : first + span], min(size, span), replace=False)
