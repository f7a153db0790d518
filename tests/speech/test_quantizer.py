import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from src.data import jsonl
from src.grid.errors import ConfigError
from src.grid.typed import typed
from src.speech.encoders.lda import Lda
from src.speech.quantizer import KMeansQuantizer, fit_quantizer, load_quantizer
from src.speech.settings import QuantizerConfig


def cost(units: tuple[int, ...], features: np.ndarray, centroids: np.ndarray, penalty: float) -> float:
    distances = ((features[:, None] - centroids[None]) ** 2).sum(axis=2)
    changes = sum(a != b for a, b in itertools.pairwise(units))
    return float(distances[np.arange(len(units)), list(units)].sum() + penalty * changes)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), penalty=st.sampled_from([0.0, 0.3, 1.0, 5.0, 100.0]), frames=st.integers(1, 6))
def test_units_are_the_cheapest_of_all_sequences(seed: int, penalty: float, frames: int) -> None:
    random = np.random.default_rng(seed)
    features = random.normal(size=(frames, 2)).astype(np.float32)
    centroids = random.normal(size=(3, 2)).astype(np.float32)
    units = tuple(KMeansQuantizer(centroids, penalty)(features).tolist())
    best = min(
        cost(candidate, features, centroids, penalty) for candidate in itertools.product(range(3), repeat=frames)
    )
    assert cost(units, features, centroids, penalty) == pytest.approx(best, abs=1e-4)


def test_no_frames_give_no_units() -> None:
    for penalty in (0, 1):
        assert len(KMeansQuantizer(np.eye(2, dtype=np.float32), penalty)(np.zeros((0, 2), np.float32))) == 0


def test_clusters_are_found() -> None:
    centers = np.array([[0, 0], [10, 0], [0, 10]], np.float32)
    frames = np.random.default_rng(0).normal(size=(300, 2)).astype(np.float32) + np.repeat(centers, 100, axis=0)
    quantizer = fit_quantizer([frames[:150], frames[150:]], Lda(clusters=3, switch_penalty=2))
    assert sorted(np.round(quantizer.centroids).tolist()) == sorted(centers.tolist())
    assert quantizer.penalty == pytest.approx(2 * 2, rel=0.2), "two mean squared distances of a 2-d unit normal"


def test_more_clusters_than_frames() -> None:
    with pytest.raises(ValueError, match=r"quantizer\.clusters is 64; it must be at most the 3 frames"):
        fit_quantizer([np.zeros((3, 2), np.float32)], Lda())


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"encoder": "hubert"}, "quantizer.encoder is 'hubert'; it must be one of lda, mfcc"),
        ({"frame_ms": 25}, "quantizer.frame_ms is 25; it must be one of 10, 20"),
        ({"clusters": 1}, "quantizer.clusters"),
        ({"switch_penalty": -1.0}, "quantizer.switch_penalty"),
        ({"centroids": 3}, "quantizer.centroids is no setting"),
        ({"encoder": "mfcc", "context": 3}, "quantizer.context is no setting"),
    ],
)
def test_bad_settings(bad: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        typed(QuantizerConfig, bad, "quantizer")  # type: ignore[type-abstract]


def test_artifact(speech: dict[str, Path]) -> None:
    encoder, quantizer = load_quantizer(speech["quantizer"])
    audio = np.load(speech["quantizer"] / "audio.npy")
    rows = list(jsonl.read(speech["quantizer"] / "utterances.jsonl"))
    assert audio.dtype == np.int16 and len(audio) == sum(row["length"] for row in rows)
    assert [row["text"] for row in rows] == [row["text"] for row in jsonl.read(speech["corpus"] / "fit.jsonl")]
    last = rows[-1]
    assert [word for word, _, _ in last["words"]] == last["text"].split()
    assert last["words"][-1][2] == pytest.approx(last["length"] / 16_000, abs=1e-3)
    units = quantizer(encoder(audio[last["start"] : last["start"] + last["length"]]))
    assert len(units) == pytest.approx(last["length"] / 320, abs=1)
    assert units.min() >= 0 and units.max() < quantizer.clusters == 24
    assert json.loads((speech["quantizer"] / "quantizer.json").read_text())["encoder"] == "lda"
