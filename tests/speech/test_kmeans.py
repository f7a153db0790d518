"""Nearest centroids against distances written out, files of centroids, and units of whole utterances."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from transformers import Wav2Vec2Model

from src.data import jsonl
from src.speech.audio import write_audio
from src.speech.centroids import load_centroids
from src.speech.encoder import load_encoder
from src.speech.kmeans import draw_frames, extract_units, fit_centroids
from src.speech.nearest import NearestCentroid
from src.speech.protocols import Quantizer
from src.speech.published_settings import EncoderSettings, QuantizerSettings
from tests.contexts import Recorded
from tests.speech.test_encoder import AUDIOS, LAYER, TINY, hidden_states, named
from tests.speech.test_encoder import reference as reference

RANDOM = np.random.default_rng(0)


def nearest(features: np.ndarray, centroids: np.ndarray) -> list[int]:
    return cdist(features, centroids).argmin(axis=1).tolist()


@pytest.fixture(scope="module")
def centroids() -> np.ndarray:
    """Far from the origin, so that |c|^2 matters, and not all equally far."""
    return (3 + RANDOM.normal(size=(50, 32)) * RANDOM.uniform(0.5, 2, size=(50, 1))).astype(np.float32)


def test_units_are_the_nearest_centroids(centroids: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    features = (3 + RANDOM.normal(size=(301, 32))).astype(np.float32)
    expected = nearest(features, centroids)
    assert len(set(expected)) > 10
    quantizer: Quantizer = NearestCentroid(centroids)
    assert quantizer.clusters == 50 and quantizer(features).dtype == np.int64
    assert quantizer(features).tolist() == expected
    monkeypatch.setattr("src.speech.nearest.CHUNK", 7)
    assert quantizer(features).tolist() == expected
    assert quantizer(features[:0]).tolist() == []
    half = torch.from_numpy(features).to(torch.bfloat16)
    assert NearestCentroid(centroids)(half).tolist() == nearest(half.float().numpy(), centroids), (
        "distances are not rounded"
    )


def test_features_of_another_encoder(centroids: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"shape \(3, 16\) do not fit centroids of 32 dimensions"):
        NearestCentroid(centroids)(np.zeros((3, 16), np.float32))


def test_file_of_centroids(centroids: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "kmeans_10k.npy"
    np.save(path, centroids.astype(np.float64))
    loaded = load_centroids(path)
    assert loaded.dtype == np.float32 and np.array_equal(loaded, centroids)


def test_files_without_centroids(tmp_path: Path) -> None:
    path = tmp_path / "kmeans.npy"
    with pytest.raises(ValueError, match=r"kmeans\.npy; it must be a \.npy file of centroids \[clusters, dimensions\]"):
        load_centroids(path)
    for array, found in (
        (np.zeros(3), r"float64 of shape \(3,\)"),
        (np.zeros((2, 3), int), r"int64 of shape \(2, 3\)"),
    ):
        np.save(path, array)
        with pytest.raises(ValueError, match=rf"must be finite centroids \[clusters, dimensions\], not {found}"):
            load_centroids(path)
    np.save(path, np.full((2, 3), np.nan))
    with pytest.raises(ValueError, match=r"quantizer\.centroids is .*; it must be finite centroids, and some"):
        load_centroids(path)
    np.savez(tmp_path / "two.npz", np.zeros((2, 3)))
    with pytest.raises(ValueError, match=r"must be a \.npy file, not an \.npz archive"):
        load_centroids(tmp_path / "two.npz")
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match=r"must be a \.npy file of centroids"):
        load_centroids(path)


def test_fitted_centroids_are_found_again() -> None:
    centers = np.array([[0, 0], [10, 0], [0, 10]], np.float32)
    frames = (np.repeat(centers, 200, axis=0) + RANDOM.normal(size=(600, 2)) * 0.5).astype(np.float32)
    fitted = fit_centroids(frames, 3)
    assert sorted(np.round(fitted).tolist()) == sorted(centers.tolist()) and fitted.dtype == np.float32
    assert np.array_equal(fit_centroids(frames, 3), fitted), "the seed decides"
    with pytest.raises(ValueError, match="clusters is 64; it must be at most the 3 frames to fit"):
        fit_centroids(frames[:3], 64)


@pytest.mark.parametrize("style", ["fairseq", "fairseq2"])
def test_units_of_a_checkpoint_are_those_of_transformers(style: str, reference: Wav2Vec2Model, tmp_path: Path) -> None:
    path = tmp_path / "encoder.pt"
    torch.save({"model": named(reference.state_dict(), style)}, path)
    encoder = load_encoder(EncoderSettings(model=str(path), architecture=TINY, layer=LAYER, batch_seconds=4.0))
    states = [hidden_states(reference, audio)[LAYER][0].numpy() for audio in AUDIOS if len(audio) >= 400]
    fitted = fit_centroids(np.concatenate(states), 40)
    expected = iter([nearest(state, fitted) for state in states])

    finished: list[int] = []
    units = extract_units(encoder, NearestCentroid(fitted), AUDIOS, lambda places: finished.extend(places))
    for audio, own in zip(AUDIOS, units, strict=True):
        assert own.tolist() == (next(expected) if len(audio) >= 400 else [])
    assert len(units[0]) == 49, "1.0 s"
    assert len({unit for own in units for unit in own}) > 20
    assert sorted(finished) == list(range(len(AUDIOS)))

    with pytest.raises(ValueError, match="centroids of 16 dimensions do not fit an encoder of 32"):
        extract_units(encoder, NearestCentroid(fitted[:, :16]), AUDIOS)


def test_a_recording_that_cannot_be_decoded_has_no_frames(reference: Wav2Vec2Model, tmp_path: Path) -> None:
    path = tmp_path / "encoder.pt"
    torch.save({"model": named(reference.state_dict(), "fairseq")}, path)
    encoder = load_encoder(EncoderSettings(model=str(path), architecture=TINY, layer=LAYER))
    write_audio(tmp_path / "good.flac", AUDIOS[0])
    (tmp_path / "bad.flac").write_bytes(b"no audio")
    settings = QuantizerSettings(clusters=2, fit_utterances=9, fit_frames=100)
    found = []
    for names in (["good"], ["bad", "good"]):
        jsonl.write(tmp_path / "asr.jsonl", [{"audio": f"{name}.flac"} for name in names])
        found.append(draw_frames(encoder, tmp_path, settings, Recorded(tmp_path / "work")))
    (alone, seconds), (beside, same) = found
    assert len(alone) == 49 and len(beside) == 49 and seconds == same == pytest.approx(1.0)
