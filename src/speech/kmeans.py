"""Units of a pretrained encoder: the nearest centroid of each frame, in L2. Repeats stay, 50 units a second.

    quantizer = NearestCentroid(load_centroids("kmeans_10k.npy"))  # of src.speech.centroids
    units = extract_units(encoder, quantizer, audios)

The Seamless release's kmeans_10k.npy [10000, 1280] belongs to layer 35 of XLSR2-1B-v2, and is for non-commercial use
(CC-BY-NC 4.0 or the Seamless license). For another encoder, `fit_centroids` makes a file of the same kind, and
`fit_to_corpus` fits it to utterances of the corpus.
"""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.numpy import save_file

from src.data import jsonl, recordings
from src.speech import load
from src.speech.audio import SAMPLE_RATE, NoAudio
from src.speech.batches import Finished
from src.speech.encoder import SpeechEncoder
from src.speech.nearest import NearestCentroid
from src.speech.published_settings import QuantizerSettings
from src.speech.settings import full_names
from src.speech.threads import one_thread

if TYPE_CHECKING:
    from src.grid.context import Context

READ_AT_ONCE = 128
"""Utterances whose audio is in memory while centroids are fitted."""


def fit_centroids(frames: npt.NDArray[np.float32], clusters: int, seed: int = 0) -> npt.NDArray[np.float32]:
    """Centroids [clusters, dimensions] of frames [n, dimensions], by scikit-learn's mini-batch k-means; `np.save` keeps
    them. Raises ValueError when there are fewer frames than clusters."""
    from sklearn.cluster import MiniBatchKMeans

    if len(frames) < clusters:
        raise ValueError(f"quantizer.clusters is {clusters}; it must be at most the {len(frames)} frames to fit")
    # As HuBERT's own recipe (Hsu et al. 2021, section IV-B): batches of 10,000 frames, 20 random starts.
    model = MiniBatchKMeans(clusters, batch_size=10_000, n_init=20, max_iter=100, random_state=seed)
    return model.fit(frames).cluster_centers_.astype(np.float32)


def extract_units(
    encoder: SpeechEncoder,
    quantizer: NearestCentroid,
    audios: Sequence[npt.NDArray[Any]],
    finished: Finished | None = None,
) -> list[npt.NDArray[np.int64]]:
    """The units of each of `audios`, in their order. `finished` gets the places of each batch that is done.

    Raises ValueError when the centroids are those of another encoder.
    """
    if quantizer.dimensions != encoder.dimensions:
        raise ValueError(
            f"quantizer.centroids: centroids of {quantizer.dimensions} dimensions do not fit an encoder of "
            f"{encoder.dimensions}; take the k-means that was fitted to this encoder and layer"
        )
    units: list[npt.NDArray[np.int64]] = [np.zeros(0, np.int64)] * len(audios)
    for places, features in encoder.batches(audios):
        for i, part in zip(places, features, strict=True):
            units[i] = quantizer(part)
        if finished:
            finished(places)
    return units


def draw_frames(
    encoder: SpeechEncoder, corpus: Path, settings: QuantizerSettings, context: "Context"
) -> tuple[npt.NDArray[np.float32], float]:
    """Features [frames, dimensions] to fit to, and the seconds of audio that they were drawn from.

    Of each utterance drawn from asr.jsonl equally many frames, all of one that has fewer. What cannot be decoded has
    none.
    """
    rows = [row["audio"] for row in jsonl.read(corpus / "asr.jsonl")]
    generator = random.Random(f"{settings.seed}-kmeans")
    count = min(settings.fit_utterances, len(rows))
    # In their order: rows of one file are read one after another.
    drawn = [rows[i] for i in sorted(generator.sample(range(len(rows)), count))]
    share = -(-settings.fit_frames // max(1, count))
    frames: list[npt.NDArray[np.float32]] = []
    samples = 0
    for start in range(0, count, READ_AT_ONCE):
        audios = [_read(reference, corpus) for reference in drawn[start : start + READ_AT_ONCE]]
        samples += sum(map(len, audios))
        kept: dict[int, npt.NDArray[np.float32]] = {}
        for places, features in encoder.batches(audios):
            for place, part in zip(places, features, strict=True):
                own = np.random.default_rng([settings.seed, start + place])
                chosen = np.sort(own.permutation(len(part))[:share])
                kept[place] = part[torch.from_numpy(chosen).to(part.device)].float().cpu().numpy()
        frames += [kept[place] for place in sorted(kept)]
        context.report(done=start + len(audios), total=count, hours=round(samples / SAMPLE_RATE / 3600, 3))
    return np.concatenate(frames) if frames else np.zeros((0, encoder.dimensions), np.float32), samples / SAMPLE_RATE


def _read(reference: str, corpus: Path) -> npt.NDArray[np.float32]:
    try:
        return recordings.read(reference, corpus)
    except NoAudio:
        return np.zeros(0, np.float32)


@full_names()
@one_thread
def fit_to_corpus(
    settings: QuantizerSettings, corpus: Path, encoder_folder: Path, out: Path, context: "Context"
) -> dict[str, Any]:
    """Fit centroids to the encoder's features of utterances drawn from asr.jsonl, and write centroids.safetensors.

    Raises ValueError for fewer frames than clusters.
    """
    encoder = load.encoder(encoder_folder)
    frames, seconds = draw_frames(encoder, corpus, settings, context)
    centroids = fit_centroids(frames, settings.clusters, settings.seed)
    save_file({"centroids": centroids}, out / load.CENTROIDS)
    return {"clusters": len(centroids), "frames": len(frames), "hours": round(seconds / 3600, 3)}
