from pathlib import Path

import numpy as np
import pytest
import soundfile

from src.speech.audio import (
    SAMPLE_RATE,
    Word,
    read_audio,
    resample,
    to_float32,
    to_int16,
    words_from_rows,
    words_to_rows,
    write_audio,
)


def tone(frequency: float, rate: int, seconds: float = 0.5) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * frequency * np.arange(int(seconds * rate)) / rate)).astype(np.float32)


def test_flac_keeps_samples_to_sixteen_bits(tmp_path: Path) -> None:
    audio = tone(440, SAMPLE_RATE)
    write_audio(tmp_path / "audio" / "a.flac", audio)
    assert soundfile.info(tmp_path / "audio" / "a.flac").samplerate == 16_000
    assert np.abs(read_audio(tmp_path / "audio" / "a.flac") - audio).max() < 2 / 32768


def test_reading_resamples_and_mixes_channels(tmp_path: Path) -> None:
    left = tone(1000, 22_050)
    soundfile.write(tmp_path / "stereo.wav", np.stack([left, np.zeros_like(left)], axis=1), 22_050)
    audio = read_audio(tmp_path / "stereo.wav")
    spectrum = np.abs(np.fft.rfft(audio))
    assert len(audio) == pytest.approx(8000, abs=2)
    assert spectrum.argmax() * SAMPLE_RATE / len(audio) == pytest.approx(1000, abs=3)
    assert np.abs(audio).max() == pytest.approx(0.25, abs=0.02)


def test_resampling_at_the_same_rate_changes_nothing() -> None:
    audio = tone(300, SAMPLE_RATE)
    assert resample(audio, SAMPLE_RATE) is audio


def test_sample_types_round_trip_and_clip() -> None:
    assert to_int16(np.array([-2.0, -1.0, 0.0, 1.0, 2.0])).tolist() == [-32767, -32767, 0, 32767, 32767]
    samples = np.array([-32767, -5, 0, 123, 32767], np.int16)
    assert np.array_equal(to_int16(to_float32(samples)), samples)


@pytest.mark.parametrize("bad", [np.zeros((2, 3), np.float32), np.zeros(3, np.int32)])
def test_other_audio_is_refused(bad: np.ndarray) -> None:
    with pytest.raises(ValueError, match="audio must be"):
        to_float32(bad)


def test_words_round_trip_as_rows() -> None:
    words = (Word("red", 0.0, 0.25), Word("cat", 0.25, 0.70001))
    assert words_from_rows(words_to_rows(words)) == (Word("red", 0.0, 0.25), Word("cat", 0.25, 0.7))
