"""The step that turns every sentence to be spoken into units, word by word."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from src.data import jsonl
from src.speech import Synthesizer
from src.speech.aligner import WordAligner
from src.speech.audio import Utterance, write_audio
from src.speech.quantizer import load_quantizer
from src.speech.settings import read_settings, require
from src.speech.synthesizer import make_synthesizer
from src.speech.threads import one_thread

SETS = {"asr": ("text",), "tts": ("text",), "sqa": ("question", "answer"), "eval_qa": ("question",), "eval_asr": ("text",)}
"""The lists of the corpus that are spoken, and which of their fields are."""


@dataclass(frozen=True)
class UnitsConfig:
    """Who speaks, and what is kept to listen to."""

    synthesizer: Mapping[str, Any] = field(default_factory=dict)
    keep_audio: int = 3
    """Questions of each evaluation set whose audio is kept."""

    def __post_init__(self) -> None:
        require(self.keep_audio >= 0, "units.keep_audio", self.keep_audio, "0 or more")


class Tokenizer:
    """Text to the units of its words, by way of audio. A text with the id of an earlier one is not spoken again."""

    def __init__(self, config: Mapping[str, Any], quantizer: Path) -> None:
        self._config = config
        self._encoder, self._quantizer = load_quantizer(quantizer)
        self._aligner = WordAligner()
        self._known: dict[tuple[str, str], dict[str, Any]] = {}

    def synthesizer(self, stream: str) -> Synthesizer:
        return make_synthesizer(self._config, stream)

    def units(self, utterance: Utterance) -> dict[str, Any]:
        """{words, units: one list a word}."""
        units = self._quantizer(self._encoder(utterance.audio))
        words = [word.text for word in utterance.words]
        return {"words": words, "units": self._aligner(units, utterance.words, self._encoder.frame_rate)}
