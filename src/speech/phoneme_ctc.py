"""A small phoneme recognizer that says what spoken answers contain.

Convolutions and a bidirectional GRU, trained with CTC on natural and on vocoded audio; the result is the likeliest
sequence of words of the lexicon.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from src.speech.fitting import Schedule, fit
from src.speech.lexicon import Lexicon, LexiconDecoder
from src.speech.mel_griffin_lim import pad
from src.speech.spectrogram import log_mel

MELS = 80
STRIDE = 4
"""Log-mel frames in one output frame."""


class PhonemeNetwork(nn.Module):
    """Normalized log-mel frames to scores of symbols every 40 ms; the last class is the CTC blank."""

    def __init__(self, symbols: int, width: int, dropout: float) -> None:
        super().__init__()
        self.first = nn.Conv1d(MELS, width, 5, stride=2, padding=2)
        self.second = nn.Conv1d(width, width, 5, stride=2, padding=2)
        self.recurrent = nn.GRU(width, width, bidirectional=True, batch_first=True)
        self.output = nn.Linear(2 * width, symbols + 1)
        self.dropout = nn.Dropout(dropout)

    def forward(self, frames: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Frames [batch, time, 80] of `lengths` [batch] to scores [batch, time', symbols + 1] and their lengths."""
        lengths = (lengths + 1) // 2
        x = torch.relu(self.first(frames.transpose(1, 2)))
        # Without the mask a padded utterance would end differently from the same one alone.
        x = x * (torch.arange(x.shape[2]) < lengths[:, None])[:, None]
        lengths = (lengths + 1) // 2
        x = self.dropout(torch.relu(self.second(x))).transpose(1, 2)
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        x, _ = pad_packed_sequence(self.recurrent(packed)[0], batch_first=True)
        return self.output(self.dropout(x)), lengths


class PhonemeRecognizer:
    """A trained network with its feature statistics and its lexicon."""

    def __init__(
        self, network: PhonemeNetwork, mean: Tensor, deviation: Tensor, lexicon: Lexicon, word_penalty: float
    ) -> None:
        self.network = network.eval()
        self.mean = mean
        self.deviation = deviation
        self.lexicon = lexicon
        self._decode = LexiconDecoder(lexicon, word_penalty)

    def features(self, audio: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Normalized log-mel frames [frames, 80]."""
        return (log_mel(audio, MELS) - self.mean.numpy()) / self.deviation.numpy()

    def canonical(self, text: str) -> str:
        """The text with homophones written as one of them, as far as the recognizer cannot tell them apart."""
        return self.lexicon.canonical(text)

    @torch.inference_mode()
    def __call__(self, audios: Sequence[npt.NDArray[Any]]) -> list[str]:
        """What is said in each of `audios` ([samples]), in words of the lexicon; "" for silence or no samples."""
        texts = [""] * len(audios)
        heard = [i for i, audio in enumerate(audios) if len(audio)]
        if not heard:
            return texts
        frames = [self.features(audios[i]) for i in heard]
        scores, lengths = self.network(pad(frames, 0), torch.tensor([len(part) for part in frames]))
        for i, part, length in zip(heard, scores.log_softmax(-1), lengths, strict=True):
            texts[i] = self._decode(part[:length].numpy())
        return texts


def train(
    frames: Sequence[npt.NDArray[np.float32]],
    targets: Sequence[Sequence[int]],
    network: PhonemeNetwork,
    noise: float,
    seed: int,
    config: Schedule,
    context: Any,
) -> None:
    """Train the network on normalized `frames` with their symbol classes.

    noise: the standard deviation of what is added to the frames. seed: of the noise and of the order of the batches.
    """
    random = np.random.default_rng(seed)
    blank = network.output.out_features - 1

    def loss_of(indices: npt.NDArray[np.int64]) -> Tensor:
        batch = [disturbed(frames[i], noise, random) for i in indices]
        scores, lengths = network(pad(batch, 0), torch.tensor([len(part) for part in batch]))
        return nn.functional.ctc_loss(
            scores.log_softmax(-1).transpose(0, 1),
            torch.tensor([symbol for i in indices for symbol in targets[i]]),
            lengths,
            torch.tensor([len(targets[i]) for i in indices]),
            blank=blank,
            zero_infinity=True,
        )

    fit(network, [len(part) for part in frames], loss_of, config, random, context)


def disturbed(frames: npt.NDArray[np.float32], noise: float, random: np.random.Generator) -> npt.NDArray[np.float32]:
    """A copy with a random offset for each band, a band of up to 9 mels and a stretch of up to 4 frames set to zero."""
    copy = frames + noise * random.standard_normal(frames.shape[1], dtype=np.float32)
    mel = int(random.integers(0, frames.shape[1] - 9))
    copy[:, mel : mel + int(random.integers(0, 10))] = 0
    time = int(random.integers(0, len(frames)))
    copy[time : time + int(random.integers(0, 5))] = 0
    return copy
