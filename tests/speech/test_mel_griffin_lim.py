import json
from pathlib import Path

import numpy as np
import pytest
import torch

from src.grid.errors import ConfigError
from src.grid.typed import typed
from src.speech.mel_griffin_lim import (
    GriffinLimVocoder,
    MelNetwork,
    loss_of,
    make_example,
    positions_of,
    runs_of,
    train,
)
from src.speech.quantizer import load_quantizer
from src.speech.settings import VocoderConfig
from src.speech.units_of_words import without_repeats
from src.speech.vocoders.mel_griffin_lim import MelGriffinLim
from tests.speech.conftest import quiet_context


def test_runs_and_positions() -> None:
    units, durations = runs_of(np.array([0, 0, 5, 5, 5, 0]))
    assert units.tolist() == [0, 5, 0] and durations.tolist() == [2, 3, 1]
    assert positions_of(durations)[:, 0] == pytest.approx([0.25, 0.75, 1 / 6, 0.5, 5 / 6, 0.5])


def test_examples_line_up_frames_with_units() -> None:
    audio = np.random.default_rng(0).normal(scale=0.1, size=16_000).astype(np.float32)
    example = make_example(np.repeat([1, 2], [20, 31]), audio, hops=2)
    assert example.durations.sum() * 2 == len(example.log_mels) == 102


def test_a_batch_is_no_other_than_its_utterances_alone() -> None:
    """Padding must not leak into what is there."""
    torch.manual_seed(0)
    network = MelNetwork(clusters=6, width=8, hops=2).eval()
    random = np.random.default_rng(0)
    audio = [random.normal(scale=0.1, size=n).astype(np.float32) for n in (3200, 9600)]
    examples = [make_example(random.integers(0, 6, n), a, 2) for n, a in zip((11, 31), audio, strict=True)]
    frames = [len(example.log_mels) for example in examples]
    with torch.inference_mode():
        together = loss_of(network, examples, duration_weight=0).item()
        alone = [loss_of(network, [example], duration_weight=0).item() for example in examples]
    assert together == pytest.approx(np.average(alone, weights=frames), rel=1e-5)


def test_training_learns_units_and_durations() -> None:
    """Three units, each with a spectrum and a duration of its own: the vocoder gives them back."""
    levels, lengths = np.array([-6.0, -3.0, 0.0]), np.array([2, 5, 9])
    random = np.random.default_rng(0)
    examples = []
    for _ in range(24):
        order = random.permutation(3)
        units = np.repeat(order, lengths[order])
        example = make_example(units, np.zeros(320 * len(units), np.float32), hops=2)
        mel = np.repeat(levels[units], 2)[:, None].repeat(80, axis=1).astype(np.float32)
        examples.append(type(example)(example.units, example.durations, mel))
    torch.manual_seed(0)
    network = MelNetwork(clusters=3, width=16, hops=2)
    config = MelGriffinLim(steps=150, batch_size=8, learning_rate=1e-2)
    train(examples, network, duration_weight=0.3, seed=0, config=config, context=quiet_context(Path()))
    mel = GriffinLimVocoder(network, clusters=3, iterations=1).log_mels([2, 0, 1])
    assert len(mel) == pytest.approx(2 * (9 + 2 + 5), abs=2)
    assert [mel[6:12].mean(), mel[19:21].mean(), mel[25:30].mean()] == pytest.approx([0, -6, -3], abs=0.7)


def test_artifact_speaks(speech: dict[str, Path]) -> None:
    vocoder = MelGriffinLim.load(speech["vocoder"])
    audio = vocoder([3, 17, 4, 4, 9])
    assert audio.dtype == np.float32 and audio.ndim == 1 and len(audio) > 5 * 160
    assert np.isfinite(audio).all() and np.abs(audio).max() <= 1
    assert np.array_equal(audio, vocoder([3, 17, 4, 9])), "repeats count once"
    assert len(vocoder([])) == 0
    assert json.loads((speech["vocoder"] / "vocoder.json").read_text())["clusters"] == 24


def test_longer_unit_sequences_sound_longer(speech: dict[str, Path]) -> None:
    encoder, quantizer = load_quantizer(speech["quantizer"])
    audio = np.load(speech["quantizer"] / "audio.npy")[:16_000]
    units = without_repeats(quantizer(encoder(audio)))
    vocoder = MelGriffinLim.load(speech["vocoder"])
    assert len(vocoder(units)) > len(vocoder(units[: len(units) // 2])) > 0


@pytest.mark.parametrize("units", [[24], [-1, 3]])
def test_unknown_units(units: list[int], speech: dict[str, Path]) -> None:
    with pytest.raises(ValueError, match="units must be from 0 to 23"):
        MelGriffinLim.load(speech["vocoder"])(units)


@pytest.mark.parametrize(("name", "value"), [("steps", 0), ("learning_rate", 0.0), ("name", "hifigan"), ("blocks", 3)])
def test_bad_settings(name: str, value: object) -> None:
    with pytest.raises(ConfigError, match=f"vocoder.{name}"):
        typed(VocoderConfig, {name: value}, "vocoder")  # type: ignore[type-abstract]
