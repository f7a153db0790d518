"""`speech.recognizer.name=phoneme_ctc`"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src.checks import positive, require, seed
from src.speech.settings import RecognizerConfig

if TYPE_CHECKING:
    import numpy.typing as npt

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
        for name in ("noise", "word_penalty"):
            require(getattr(self, name) >= 0, name, getattr(self, name), "0 or more")
        seed(self)

    def fit(
        self, corpus: Path, fitted: Path, vocoded: "Callable[[npt.NDArray[Any]], Audio]", out: Path, context: "Context"
    ) -> "PhonemeRecognizer":
        """Train on natural and on vocoded speech."""
        import numpy as np
        import torch

        from src.data import jsonl
        from src.speech.audio import slices
        from src.speech.lexicon import make_lexicon
        from src.speech.phoneme_ctc import MELS, PhonemeNetwork, PhonemeRecognizer, train
        from src.speech.spectrogram import log_mel

        rows = list(jsonl.read(fitted / "utterances.jsonl"))
        words = json.loads((corpus / "spoken.json").read_text(encoding="utf-8"))
        lexicon, symbols = make_lexicon(words, [row["text"] for row in rows], self.synthesizer.voice)
        classes = {symbol: i for i, symbol in enumerate(lexicon.symbols)}
        targets = [[classes[symbol] for symbol in spoken] for spoken in symbols]

        natural = slices(np.load(fitted / "audio.npy", mmap_mode="r"), rows)
        frames = [log_mel(audio, MELS) for audio in natural]
        for done, audio in enumerate(natural):
            frames.append(log_mel(vocoded(audio), MELS))
            if done % 10 == 0:
                context.report(done=0, total=self.steps, vocoded=done)
        everything = np.concatenate(frames)
        mean, deviation = everything.mean(axis=0), everything.std(axis=0)
        normalized = [(part - mean) / deviation for part in frames]
        torch.manual_seed(self.seed)
        network = PhonemeNetwork(len(lexicon.symbols), self.width, self.dropout)
        train(normalized, targets + targets, network, self.noise, self.seed, self, context)
        statistics = torch.from_numpy(mean), torch.from_numpy(deviation)
        recognizer = PhonemeRecognizer(network, *statistics, lexicon, self.word_penalty)
        self.save(recognizer, out)
        context.report(done=self.steps, total=self.steps)
        return recognizer

    def save(self, recognizer: "PhonemeRecognizer", folder: Path) -> None:
        """Write recognizer.safetensors (the network, and mean and deviation of its features) and recognizer.json."""
        from safetensors.torch import save

        tensors = recognizer.network.state_dict() | {"mean": recognizer.mean, "deviation": recognizer.deviation}
        (folder / "recognizer.safetensors").write_bytes(save(tensors))
        lexicon = recognizer.lexicon
        settings = {
            "name": self.name,
            "width": self.width,
            "word_penalty": self.word_penalty,
            "symbols": lexicon.symbols,
            "lexicon": lexicon.pronunciations,
            "homophones": lexicon.homophones,
        }
        (folder / "recognizer.json").write_text(json.dumps(settings, ensure_ascii=False), encoding="utf-8")

    @staticmethod
    def load(folder: Path) -> "PhonemeRecognizer":
        from safetensors.torch import load_file

        from src.speech.lexicon import Lexicon
        from src.speech.phoneme_ctc import PhonemeNetwork, PhonemeRecognizer

        settings = json.loads((folder / "recognizer.json").read_text(encoding="utf-8"))
        tensors = load_file(folder / "recognizer.safetensors")
        mean, deviation = tensors.pop("mean"), tensors.pop("deviation")
        lexicon = Lexicon(settings["lexicon"])
        network = PhonemeNetwork(len(lexicon.symbols), settings["width"], 0.0)
        network.load_state_dict(tensors)
        return PhonemeRecognizer(network, mean, deviation, lexicon, settings["word_penalty"])
