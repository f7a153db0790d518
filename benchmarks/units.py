"""Throughput of speech to units: batched by length beside one utterance at a time.

    python -m benchmarks.units [--utterances 200] [--batch-seconds 60] [--repeats 3]

A wav2vec 2.0 of a small shape with random weights, 500 centroids, and noise whose lengths are spread as LibriSpeech's
are (most of 12 to 16 s, some shorter). Prints hours of audio an hour of each way, and their ratio within each repeat;
on a CPU an hour of one thread's processor time, which other programs do not disturb. On a GPU, set --hidden-size 1280
--channels 512 --layers 35 for the shape of XLSR2-1B-v2 up to its 35th layer.
"""

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from transformers import Wav2Vec2Config, Wav2Vec2Model

from src.speech.audio import SAMPLE_RATE
from src.speech.encoder import load_encoder
from src.speech.kmeans import extract_units
from src.speech.nearest import NearestCentroid
from src.speech.published_settings import XLSR2_1B, EncoderSettings

CLUSTERS = 500


def save_model(folder: Path, hidden_size: int, layers: int, channels: int) -> None:
    """A folder of transformers, of XLSR2-1B-v2's kind; no preprocessor_config.json, as its converted checkpoint."""
    torch.manual_seed(0)
    shape = {
        **XLSR2_1B, "hidden_size": hidden_size, "num_hidden_layers": layers, "intermediate_size": 4 * hidden_size,
        "conv_dim": [channels] * 7, "mask_time_prob": 0.0,
    }  # fmt: skip
    Wav2Vec2Model(Wav2Vec2Config(**shape)).save_pretrained(folder)


def noise(count: int) -> list[np.ndarray]:
    """Audio of 2 to 16 s, longer rather than shorter."""
    generator = np.random.default_rng(0)
    seconds = 2 + 14 * generator.beta(3, 1, size=count)
    return [generator.normal(scale=0.1, size=int(length * SAMPLE_RATE)).astype(np.float32) for length in seconds]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--utterances", type=int, default=200)
    parser.add_argument("--batch-seconds", type=float, default=60.0)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--hidden-size", type=int, default=256)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--channels", type=int, default=128)
    arguments = parser.parse_args()
    clock = time.perf_counter if torch.cuda.is_available() else time.process_time
    audios = noise(arguments.utterances)
    hours = sum(map(len, audios)) / SAMPLE_RATE / 3600
    centroids = np.random.default_rng(1).normal(size=(CLUSTERS, arguments.hidden_size)).astype(np.float32)
    quantizer = NearestCentroid(centroids)
    with tempfile.TemporaryDirectory() as folder:
        save_model(Path(folder), arguments.hidden_size, arguments.layers, arguments.channels)
        ways = {
            "batched": load_encoder(EncoderSettings(folder, arguments.layers, batch_seconds=arguments.batch_seconds)),
            "one at a time": load_encoder(EncoderSettings(folder, arguments.layers, batch_seconds=1e-3)),
        }
    print(f"{len(audios)} utterances, {hours:.2f} hours of audio")
    rates: dict[str, list[float]] = {name: [] for name in ways}
    units = {}
    for encoder in ways.values():
        extract_units(encoder, quantizer, audios[:4])
    for _ in range(arguments.repeats):
        for name, encoder in ways.items():
            start = clock()
            units[name] = extract_units(encoder, quantizer, audios)
            rates[name].append(hours / ((clock() - start) / 3600))
    frames = sum(map(len, units["batched"]))
    same = sum(int((a == b).sum()) for a, b in zip(*units.values(), strict=True))
    for name, measured in rates.items():
        print(f"{name}: {statistics.median(measured):.1f} hours an hour (of {', '.join(f'{x:.1f}' for x in measured)})")
    ratios = [a / b for a, b in zip(*rates.values(), strict=True)]
    print(f"ratio within a repeat: {statistics.median(ratios):.2f} (median of {len(ratios)})")
    print(f"{same} of {frames} frames have the same unit both ways")


if __name__ == "__main__":
    main()
