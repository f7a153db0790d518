"""Text to speech by SpeechT5 and its HiFi-GAN, in the voice of a CMU ARCTIC x-vector.

    synthesizer = load_synthesizer(SpeechT5Settings(xvectors="spkrec-xvect.zip"))
    audios = synthesizer.speak(["Paris is the capital of France.", "So it is."])

SpeechT5 does not say when its words are spoken: `src.speech.whisper` and `src.speech.word_times` find out. Its weights
are under the MIT license, and so are the x-vectors (dataset Matthijs/cmu-arctic-xvectors on the hub).
"""

import re
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from transformers import SpeechT5ForTextToSpeech, SpeechT5HifiGan, SpeechT5Tokenizer

from src.speech.audio import Utterance
from src.speech.batches import Finished, by_length, default_device, within_memory
from src.speech.published_settings import SpeechT5Settings

LONGEST = 20.0
"""Most mel frames for a token of text, transformers' own bound; what does not stop by itself is cut there."""
_SENTENCE, _CLAUSE, _WORD = r"(?<=[.!?…])[\"')\]]*\s+", r"(?<=[,;:])\s+", r"\s+"


def read_xvector(path: Path | str, index: int) -> npt.NDArray[np.float32]:
    """The x-vector [512] of a zip of .npy files, by its place among their sorted names.

    That is the order of the dataset on the hub, where 7306 of 7,931 is an utterance of slt, a US woman. Raises
    ValueError for a file that is no such zip, and for a place that it lacks.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = sorted(name for name in archive.namelist() if name.endswith(".npy"))
            if index >= len(names):
                right = f"below {len(names)}, the x-vectors in {path}"
                raise ValueError(f"synthesizer.speaker is {index}; it must be {right}")
            with archive.open(names[index]) as file:
                vector = np.load(file, allow_pickle=False)
    except (OSError, zipfile.BadZipFile) as error:
        raise ValueError(f"synthesizer.xvectors is {path}; it must be a zip of .npy files ({error})") from error
    return vector.astype(np.float32).reshape(-1)


def split_text(text: str, fits: Callable[[str], bool]) -> list[str]:
    """`text` in as few pieces as `fits` allows, cut between sentences, else between clauses, else between words. Raises
    ValueError for a word that does not fit."""
    return _split(" ".join(text.split()), fits, (_SENTENCE, _CLAUSE, _WORD))


def _split(text: str, fits: Callable[[str], bool], breaks: Sequence[str]) -> list[str]:
    if fits(text):
        return [text] if text else []
    if not breaks:
        raise ValueError(f"cannot speak a single word of {len(text)} letters: {text[:40]!r} ...")
    pieces: list[str] = []
    ends = [match.end() for match in re.finditer(breaks[0], text)]
    for start, end in zip([0, *ends], [*ends, len(text)], strict=True):
        part = text[start:end].strip()
        if pieces and fits(f"{pieces[-1]} {part}"):
            pieces[-1] += f" {part}"
        else:
            pieces += _split(part, fits, breaks[1:])
    return pieces


class SpeechT5Synthesizer:
    """A voice. What it says of a text does not depend on the texts beside it."""

    def __init__(
        self,
        model: Any,
        vocoder: Any,
        tokenizer: Any,
        speaker: npt.NDArray[np.float32],
        batch_size: int = 16,
        seed: int = 0,
    ) -> None:
        """Raises ValueError for an x-vector of another length than the model needs."""
        if len(speaker) != model.config.speaker_embedding_dim:
            needed = model.config.speaker_embedding_dim
            raise ValueError(f"synthesizer.xvectors: x-vectors of {len(speaker)} numbers, but the model needs {needed}")
        self.model = model.eval()
        self.vocoder = vocoder.eval()
        self.tokenizer = tokenizer
        self.speaker = torch.from_numpy(speaker).to(model.device, model.dtype)
        self.batch_size = batch_size
        self.seed = seed

    def __call__(self, text: str) -> Utterance:
        """`text` spoken, without word times."""
        return Utterance(text, self.speak([text])[0], words=())

    def tokens(self, text: str) -> list[int]:
        """Letters of `text` (numbers spelt out) with the end of the sequence."""
        return self.tokenizer(text, normalize=True).input_ids

    def pieces(self, text: str) -> list[str]:
        """What of `text` is spoken at once. Raises ValueError for a word that is too long by itself."""
        most = self.model.config.max_text_positions
        return split_text(text, lambda piece: len(self.tokens(piece)) <= most)

    def speak(self, texts: Sequence[str], finished: Finished | None = None) -> list[npt.NDArray[np.float32]]:
        """Audio [samples] of each of `texts`, in their order; no samples of an empty one.

        Texts that are too long for the model (600 letters) are spoken in pieces, one after another. `finished` gets the
        places of the texts that each batch has completed. Raises ValueError for a word that is too long by itself.
        """
        pieces = [self.pieces(text) for text in texts]
        owners = [i for i, own in enumerate(pieces) for _ in own]
        tokens = [self.tokens(piece) for own in pieces for piece in own]
        spoken: list[npt.NDArray[np.float32]] = [np.zeros(0, np.float32)] * len(tokens)
        missing = [len(own) for own in pieces]
        if finished and (empty := [i for i, count in enumerate(missing) if not count]):
            finished(empty)
        batches = by_length([len(part) for part in tokens], float("inf"), self.batch_size)
        for places, audios in within_memory(batches, lambda places: self._audios([tokens[place] for place in places])):
            for place, audio in zip(places, audios, strict=True):
                spoken[place] = audio
                missing[owners[place]] -= 1
            if finished and (done := sorted({owners[place] for place in places if not missing[owners[place]]})):
                finished(done)
        parts: list[list[npt.NDArray[np.float32]]] = [[] for _ in texts]
        for owner, audio in zip(owners, spoken, strict=True):
            parts[owner].append(audio)
        return [np.concatenate(own) if own else np.zeros(0, np.float32) for own in parts]

    @torch.inference_mode()
    def _audios(self, batch: Sequence[list[int]]) -> list[npt.NDArray[np.float32]]:
        # One spectrogram at a time: in a batch, the end of the shorter ones would hear the padding.
        return [self.vocoder(spectrogram).float().cpu().numpy() for spectrogram in self._spectrograms(batch)]

    def _spectrograms(self, batch: Sequence[list[int]]) -> list[Tensor]:
        """Mel frames [frames, mels] of each text."""
        config, device = self.model.config, self.model.device
        width = max(map(len, batch))
        ids = torch.tensor([tokens + [config.pad_token_id] * (width - len(tokens)) for tokens in batch])
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            # The prenet's dropout is the same for all rows of a batch, so a seed makes it the same in every batch.
            torch.manual_seed(self.seed)
            padded, lengths = self.model.generate_speech(
                ids.to(device),
                self.speaker.expand(len(batch), -1),
                maxlenratio=self._longest(width),
                return_output_lengths=True,
            )
        frames = [part[:length] for part, length in zip(padded, lengths, strict=True)]
        for i, tokens in enumerate(batch):
            # A text that does not end by itself is cut where it would be alone, not where a longer neighbor is.
            if len(tokens) < width and len(frames[i]) > len(tokens) * self._longest(len(tokens)):
                frames[i] = self._spectrograms([tokens])[0]
        return frames

    def _longest(self, width: int) -> float:
        """Most mel frames for each of `width` tokens: the model cannot count further than its positions."""
        config = self.model.config
        return min(LONGEST, config.max_speech_positions * config.reduction_factor / width)


def load_synthesizer(
    settings: SpeechT5Settings,
    device: torch.device | None = None,
    speaker: npt.NDArray[np.float32] | None = None,
) -> SpeechT5Synthesizer:
    """The voice of `settings`, on `device` (by default the GPU where there is one).

    speaker: the x-vector, where it is not to be taken from the zip. Raises ValueError for x-vectors that cannot be
    read, or do not fit the model.
    """
    device = device or default_device()
    dtype = getattr(torch, settings.dtype)
    speaker = read_xvector(settings.xvectors, settings.speaker) if speaker is None else speaker
    model: Any = SpeechT5ForTextToSpeech.from_pretrained(settings.model, revision=settings.revision, dtype=dtype)
    vocoder: Any = SpeechT5HifiGan.from_pretrained(settings.vocoder, revision=settings.vocoder_revision, dtype=dtype)
    tokenizer = SpeechT5Tokenizer.from_pretrained(settings.model, revision=settings.revision)
    return SpeechT5Synthesizer(
        model.to(device), vocoder.to(device), tokenizer, speaker, settings.batch_size, settings.seed
    )
