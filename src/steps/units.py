"""The laptop's speech: every sentence of the corpus spoken and written as units."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src.grid.step import Inputs, Step
from src.speech.settings import LISTS, UnitsConfig

if TYPE_CHECKING:
    from src.grid.context import Context


@dataclass(frozen=True, kw_only=True, eq=False)
class Units(Step):
    """Speak the corpus and write the units of each word."""

    version = 2
    needs = ("scipy.fft", "soundfile", "librosa.filters")

    config: UnitsConfig
    lists: tuple[str, ...] = LISTS
    """What is spoken of the corpus."""
    corpus: Step
    quantizer: Step

    def run(self, inputs: Inputs, out: Path, context: "Context") -> dict[str, Any]:
        from src.speech import spoken_corpus

        return spoken_corpus.speak_corpus(
            self.config, self.lists, inputs[self.corpus], inputs[self.quantizer], out, context
        )
