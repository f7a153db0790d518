"""librosa is the reference for both directions."""

import librosa
import numpy as np
import pytest

from src.speech.settings import SynthesizerConfig
from src.speech.spectrogram import FFT, FLOOR, HOP, WINDOW, griffin_lim, log_mel
from src.speech.synthesizer import make_synthesizer


@pytest.fixture(scope="module")
def audio() -> np.ndarray:
    return make_synthesizer(SynthesizerConfig())("the elephant from brussels").audio


def test_log_mel_is_librosas(audio: np.ndarray) -> None:
    padded = np.pad(audio, WINDOW // 2)
    # librosa centres the window inside the transform; magnitudes do not depend on where it stands.
    padded = np.pad(padded, (FFT - WINDOW) // 2)
    mel = librosa.feature.melspectrogram(
        y=padded, sr=16_000, n_fft=FFT, hop_length=HOP, win_length=WINDOW, center=False, power=1.0, n_mels=80
    )
    expected = np.log(np.maximum(mel, FLOOR)).T
    ours = log_mel(audio, 80)
    assert ours.shape == expected.shape == (1 + len(audio) // HOP, 80)
    assert ours.dtype == np.float32
    assert np.abs(ours - expected).max() < 1e-3


def test_log_mel_of_sixteen_bit_samples(audio: np.ndarray) -> None:
    integers = np.round(audio * 32767).astype(np.int16)
    assert np.abs(log_mel(integers, 40) - log_mel(audio, 40)).mean() < 0.01


def test_griffin_lim_comes_as_close_as_librosas(audio: np.ndarray) -> None:
    target = log_mel(audio, 80)

    def distance(other: np.ndarray) -> float:
        return float(np.abs(log_mel(other, 80)[: len(target) - 1] - target[:-1]).mean())

    basis = librosa.filters.mel(sr=16_000, n_fft=FFT, n_mels=80)
    magnitudes = np.maximum(np.linalg.pinv(basis) @ np.exp(target.T), 1e-5)
    reference = librosa.griffinlim(
        magnitudes, n_iter=16, hop_length=HOP, win_length=WINDOW, n_fft=FFT, random_state=0, length=len(audio)
    )
    ours = griffin_lim(target, 16)
    assert abs(len(ours) - len(audio)) < HOP
    assert distance(ours) < distance(reference) + 0.03
    assert distance(griffin_lim(target, 32)) < distance(griffin_lim(target, 1))


def test_griffin_lim_is_reproducible(audio: np.ndarray) -> None:
    target = log_mel(audio, 80)
    assert np.array_equal(griffin_lim(target, 4), griffin_lim(target, 4))


def test_silence() -> None:
    assert log_mel(np.zeros(0, np.float32), 40).shape == (1, 40)
    assert np.abs(griffin_lim(log_mel(np.zeros(8000, np.float32), 80), 4)).max() < 0.05
