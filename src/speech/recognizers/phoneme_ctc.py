"""`speech.recognizer.name=phoneme_ctc`"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from src.checks import positive, require
from src.speech.settings import RecognizerConfig

if TYPE_CHECKING:
    from src.grid.context import Context
    from src.speech.phoneme_ctc import PhonemeRecognizer
    from src.speech.protocols import Audio


@dataclass(frozen=True)
class PhonemeCtc(RecognizerConfig):
    """A small phoneme network trained with CTC, whose output becomes words of the lexicon."""

    width: int = 160
    """Channels of the convolutions, and of the GRU in each direction."""
    steps: int = 600
    batch_size: int = 32
    learning_rate: float = 2e-3
    dropout: float = 0.1
    noise: float = 0.2
    """Standard deviation of what is added to normalized features in training."""
    word_penalty: float = 1.0
    """Log probability that a word must gain to be heard: higher values hear fewer, longer words."""
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(self, "width", "steps", "batch_size", "learning_rate")
        require(0 <= self.dropout < 1, "dropout", self.dropout, "at least 0 and below 1")
        for name in ("noise", "word_penalty", "seed"):
            require(getattr(self, name) >= 0, name, getattr(self, name), "0 or more")

    def fit(
        self, corpus: Path, fitted: Path, vocoded: "Callable[[Audio], Audio]", out: Path, context: "Context"
    ) -> "PhonemeRecognizer":
        from src.speech import phoneme_ctc

        return phoneme_ctc.fit_to(self, corpus, fitted, vocoded, out, context)

    @staticmethod
    def load(folder: Path) -> "PhonemeRecognizer":
        from src.speech import phoneme_ctc

        return phoneme_ctc.load_recognizer(folder)
