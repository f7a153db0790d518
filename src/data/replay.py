"""Experience replay: samples of what was learned before, mixed into a stage's own data."""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from src.checks import require

BASES = ("old", "current")


@dataclass(frozen=True, kw_only=True)
class Replay:
    """What a stage replays of what was learned before."""

    enabled: bool = True
    ratio: float
    """Examples of each earlier set, as a share of the set that `basis` names."""
    text_ratio: float | None = None
    """The same for the base model's text; null: `ratio`."""
    basis: Literal["old", "current"]
    """old: share of the earlier set's size (the paper's text); current: of the stage's own (its authors' code)."""
    pool: Literal["honest", "with_evaluation_facts"] = "honest"
    """honest: no evaluation fact is in the text pool; with_evaluation_facts: they are, for comparison alone."""

    def __post_init__(self) -> None:
        for name in ("ratio", "text_ratio"):
            value = getattr(self, name)
            require(value is None or value >= 0, name, value, "at least 0")
            whole = value is None or value <= 1 or self.basis == "current"
            require(whole, name, value, "at most 1, the whole earlier set, with replay.basis=old")
        some = not self.enabled or self.ratio > 0 or self.of_text > 0
        require(some, "ratio and text_ratio", [self.ratio, self.text_ratio], "above 0, one of them at least")

    @property
    def of_text(self) -> float:
        """The ratio for the base model's text."""
        return self.ratio if self.text_ratio is None else self.text_ratio


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
