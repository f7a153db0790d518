"""The rules by which responses are scored. Imports nothing heavy: a plan is checked with these settings."""

from dataclasses import dataclass

from src.checks import require
from src.evaluate.qa import RULES
from src.evaluate.wer import NORMALIZATIONS


@dataclass(frozen=True, kw_only=True)
class Scoring:
    """How an answer is matched and how words are compared."""

    matching: str
    """When a prediction holds an answer: a key of `qa.RULES`."""
    wer_normalization: str = "basic"
    """What a text goes through before its words are compared: one of `wer.NORMALIZATIONS`."""

    def __post_init__(self) -> None:
        require(self.matching in RULES, "matching", self.matching, "one of " + ", ".join(RULES))
        way = self.wer_normalization
        require(way in NORMALIZATIONS, "wer_normalization", way, " or ".join(NORMALIZATIONS))
