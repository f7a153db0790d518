"""Experience replay: samples of what was learned before, mixed into a stage's own data."""

import random
from collections.abc import Mapping

BASES = ("old", "current")


def replay_count(ratio: float, basis: str, old: int, current: int) -> int:
    """How many examples of an earlier set of size `old` to replay in a stage whose own set has size `current`.

    basis "old": ratio x old, as the paper's text has it; "current": ratio x current, as its authors' code has it.
    Never more than there are.

    Raises ValueError on an unknown basis.
    """
    if basis not in BASES:
        raise ValueError(f"replay.basis is {basis!r}; it must be one of {', '.join(BASES)}")
    return min(old, round(ratio * (old if basis == "old" else current)))


def sample_earlier(
    sizes: Mapping[str, int], ratios: Mapping[str, float], basis: str, current: int, seed: str
) -> dict[str, list[int]]:
    """Which examples of each earlier set are replayed: their numbers, without repetition, drawn by `seed` and name.

    sizes: examples of each earlier set. current: examples of the stage's own.
    """
    return {
        name: random.Random(f"{seed}-{name}").sample(range(size), replay_count(ratios[name], basis, size, current))
        for name, size in sizes.items()
    }
