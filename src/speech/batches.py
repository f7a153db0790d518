"""Batches of similar length, and the device they run on."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

import torch

Result = TypeVar("Result")
Finished = Callable[[Sequence[int]], None]
"""Called with the places, in the caller's list, of the examples of a batch that is done."""


def by_length(lengths: Sequence[float], most: float, rows: int | None = None) -> Iterator[list[int]]:
    """The places of the examples of each batch; the longest come first, so that a lack of memory shows at once.

    A batch has at most `rows` examples and `most` = examples x longest; a longer example is a batch of its own.
    """
    batch: list[int] = []
    for i in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        if batch and ((len(batch) + 1) * lengths[batch[0]] > most or len(batch) == rows):
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch


def within_memory(
    batches: Iterable[list[int]], compute: Callable[[list[int]], Result], size: Callable[[list[int]], float] = len
) -> Iterator[tuple[list[int], Result]]:
    """Each batch with what `compute` makes of it. A batch that does not fit into the GPU's memory is halved, and later
    ones of its size or more are halved untried.

    size: what a batch's memory grows with. Raises torch.OutOfMemoryError where a single example does not fit.
    """
    too_much = float("inf")
    for batch in batches:
        waiting = [batch]
        while waiting:
            places = waiting.pop()
            if len(places) == 1 or size(places) < too_much:
                try:
                    result = compute(places)
                except torch.OutOfMemoryError:
                    if len(places) == 1:
                        raise
                    too_much = size(places)
                else:
                    yield places, result
                    continue
            middle = len(places) // 2
            waiting += [places[middle:], places[:middle]]


def default_device() -> torch.device:
    """The GPU where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
