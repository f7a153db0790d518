"""Units: k-means clusters of features, and the step that fits them.

A frame's unit is not simply the nearest centroid: the units of an utterance are the sequence that minimizes the squared
distances plus a penalty for every change of unit (duration-penalized dynamic programming, Kamper and van Niekerk 2021).
Without repeats that leaves fewer and steadier units a word; a penalty of 0 is plain nearest-centroid quantization.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file, save

from src.data import jsonl
from src.speech.audio import SAMPLE_RATE, to_int16, words_to_rows
from src.speech.protocols import FittedEncoder
from src.speech.settings import QuantizerConfig
from src.speech.synthesizer import make_synthesizer
from src.speech.threads import one_thread

if TYPE_CHECKING:
    from src.grid.context import Context


class KMeansQuantizer:
    """Centroids [clusters, dimensions], and the price of a change of unit (a squared distance)."""

    def __init__(self, centroids: npt.NDArray[np.float32], penalty: float) -> None:
        self.centroids = centroids
        self.penalty = np.float32(penalty)
        self.clusters = len(centroids)
        self._lengths = (centroids**2).sum(axis=1)

    def __call__(self, features: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
        """The unit of each frame of one utterance: the least-cost sequence (Viterbi)."""
        costs = self._lengths - 2 * features @ self.centroids.T
        if self.penalty == 0 or len(costs) == 0:
            return costs.argmin(axis=1)
        stays = np.empty(costs.shape, bool)
        leaders = np.empty(len(costs), np.int64)
        total = costs[0]
        for t in range(1, len(costs)):
            leader = total.argmin()
            switch = total[leader] + self.penalty
            stays[t] = total <= switch
            leaders[t] = leader
            total = np.minimum(total, switch) + costs[t]
        units = np.empty(len(costs), np.int64)
        unit = total.argmin()
        for t in range(len(costs) - 1, 0, -1):
            units[t] = unit
            if not stays[t, unit]:
                unit = leaders[t]
        units[0] = unit
        return units


def save_quantizer(folder: Path, encoder: FittedEncoder, quantizer: KMeansQuantizer) -> None:
    """Write quantizer.safetensors and quantizer.json."""
    (folder / "quantizer.safetensors").write_bytes(save({**encoder.tensors(), "centroids": quantizer.centroids}))
    settings = {
        "encoder": encoder.name,
        **encoder.described(),
        "clusters": quantizer.clusters,
        "penalty": float(quantizer.penalty),
    }
    (folder / "quantizer.json").write_text(json.dumps(settings, ensure_ascii=False), encoding="utf-8")


def load_quantizer(folder: Path) -> tuple[FittedEncoder, KMeansQuantizer]:
    """The encoder and the quantizer of a `quantizer` artifact: units = quantizer(encoder(audio))."""
    settings = json.loads((folder / "quantizer.json").read_text(encoding="utf-8"))
    tensors = load_file(folder / "quantizer.safetensors")
    encoder = QuantizerConfig.chosen(settings, str(folder)).load(settings, tensors)
    return encoder, KMeansQuantizer(tensors["centroids"], settings["penalty"])


def fit_quantizer(features: list[npt.NDArray[np.float32]], config: QuantizerConfig) -> KMeansQuantizer:
    """Cluster all frames. Raises ValueError when there are fewer frames than clusters."""
    from sklearn.cluster import MiniBatchKMeans

    frames = np.concatenate(features)
    if len(frames) < config.clusters:
        raise ValueError(f"quantizer.clusters is {config.clusters}; it must be at most the {len(frames)} frames to fit")
    model = MiniBatchKMeans(config.clusters, batch_size=4096, n_init=3, max_iter=100, random_state=config.seed)
    spread = -model.fit(frames).score(frames) / len(frames)
    return KMeansQuantizer(model.cluster_centers_.astype(np.float32), config.switch_penalty * spread)


@one_thread
def fit_to_voice(settings: QuantizerConfig, corpus: Path, out: Path, context: "Context") -> dict[str, Any]:
    """Speak the corpus' fit.jsonl, fit the encoder and the quantizer to it, and keep both with the audio.

    Writes quantizer.safetensors, quantizer.json, audio.npy (int16, the utterances one after another) and
    utterances.jsonl {id, text, start, length (samples), words: [[word, start_s, end_s] ..]}.
    """
    synthesizer = make_synthesizer(settings.synthesizer, stream="fit")
    rows = list(jsonl.read(corpus / "fit.jsonl"))
    utterances = []
    for done, row in enumerate(rows):
        utterances.append(synthesizer(row["text"]))
        context.report(done=done, total=len(rows))
    encoder, features = settings.fit(utterances)
    quantizer = fit_quantizer(features, settings)
    save_quantizer(out, encoder, quantizer)

    audio = [to_int16(utterance.audio) for utterance in utterances]
    np.save(out / "audio.npy", np.concatenate(audio))
    starts = np.cumsum([0, *map(len, audio)])
    jsonl.write(
        out / "utterances.jsonl",
        (
            {
                "id": row["id"],
                "text": row["text"],
                "start": int(start),
                "length": len(samples),
                "words": words_to_rows(utterance.words),
            }
            for row, start, samples, utterance in zip(rows, starts, audio, utterances, strict=False)
        ),
    )
    context.report(done=len(rows), total=len(rows))
    seconds = round(float(starts[-1]) / SAMPLE_RATE, 1)
    return {"utterances": len(rows), "seconds_of_audio": seconds, "clusters": quantizer.clusters}
