import librosa
import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from src.speech.audio import Utterance, Word
from src.speech.features import average, fit_lda, fit_mfcc, mfcc_frames, phone_labels, slope, stacked_frames
from src.speech.settings import SynthesizerConfig
from src.speech.spectrogram import log_mel
from src.speech.synthesizer import make_synthesizer

TEXTS = ["zebra", "the tiger of peru", "seven apple", "what is the capital of france", "cat", "yellow dog"]


@pytest.fixture(scope="module")
def utterances() -> list[Utterance]:
    speak = make_synthesizer(SynthesizerConfig())
    return [speak(text) for text in TEXTS]


def test_average_fills_up_with_the_last_frame() -> None:
    frames = np.array([[1.0], [3.0], [5.0]], np.float32)
    assert average(frames, 2).tolist() == [[2.0], [5.0]]
    assert average(frames, 1).tolist() == frames.tolist()


def test_cepstra_and_slopes_are_librosas(utterances: list[Utterance]) -> None:
    audio = utterances[1].audio
    expected = librosa.feature.mfcc(S=log_mel(audio, 40).T, n_mfcc=13, norm="ortho").T
    ours = mfcc_frames(audio, 1)
    assert ours.shape == (len(expected), 39)
    assert np.abs(ours[:, :13] - expected).max() < 1e-3
    delta = librosa.feature.delta(expected.T, width=9, mode="nearest").T
    assert np.abs(ours[4:-4, 13:26] - delta[4:-4]).max() < 1e-3


def test_slope_of_a_line() -> None:
    line = np.arange(20, dtype=np.float32)[:, None] * 3
    assert slope(line)[4:-4].ravel().tolist() == pytest.approx([3.0] * 12)


def test_stacked_frames_hold_the_neighbours(utterances: list[Utterance]) -> None:
    frames = average(log_mel(utterances[0].audio, 40), 2)
    stacked = stacked_frames(utterances[0].audio, 2, context=2)
    assert stacked.shape == (len(frames), 200)
    assert np.array_equal(stacked[7].reshape(5, 40), frames[5:10])
    assert np.array_equal(stacked[0].reshape(5, 40), frames[[0, 0, 0, 1, 2]])


def test_phones_own_the_frames_they_fill() -> None:
    phones = (Word("k", 0.02, 0.05), Word("a", 0.05, 0.1), Word("t", 0.1, 0.12))
    utterance = Utterance("cat", np.zeros(2400, np.float32), (), phones)
    assert phone_labels(utterance, 8, frame_rate=50) == ["_", "k", "a", "a", "a", "t", "_", "_"]


def test_mfcc_encoder_scales_to_unit_variance(utterances: list[Utterance]) -> None:
    encoder, features = fit_mfcc(20, utterances)
    frames = np.concatenate(features)
    assert encoder.frame_rate == 50
    assert np.allclose(frames.mean(axis=0), 0, atol=1e-3) and np.allclose(frames.std(axis=0), 1, atol=1e-3)
    assert np.allclose(encoder(utterances[2].audio), features[2], atol=1e-5)


def test_lda_encoder_is_scikit_learns(utterances: list[Utterance]) -> None:
    encoder, features = fit_lda(20, 3, 5, utterances)
    frames = [stacked_frames(utterance.audio, 2, 3) for utterance in utterances]
    labels = [p for part, u in zip(frames, utterances, strict=True) for p in phone_labels(u, len(part), 50)]
    reference = LinearDiscriminantAnalysis(n_components=5).fit(np.concatenate(frames), labels)
    assert encoder(utterances[0].audio).shape == (len(frames[0]), 5)
    assert np.allclose(encoder(utterances[0].audio), reference.transform(frames[0]), atol=2e-3)
    assert np.allclose(np.concatenate(features), reference.transform(np.concatenate(frames)), atol=2e-3)


def test_lda_needs_phones_and_few_enough_dimensions(utterances: list[Utterance]) -> None:
    without = [Utterance("cat", utterances[4].audio, utterances[4].words)]
    with pytest.raises(ValueError, match="phone times of 'cat'"):
        fit_lda(20, 3, 5, without)
    with pytest.raises(ValueError, match=r"quantizer\.dimensions is 100; it must be below"):
        fit_lda(20, 3, 100, utterances)
