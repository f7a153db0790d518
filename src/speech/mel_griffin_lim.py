"""Unit vocoder: a small convolutional network from units to durations and log-mel frames, then Griffin-Lim.

It is fitted to the natural audio of the quantizer's utterances and to their own units.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from src.speech.fitting import Schedule, fit
from src.speech.spectrogram import griffin_lim, log_mel
from src.speech.units_of_words import without_repeats

MELS = 80


class ConvStack(nn.ModuleList):
    """Residual convolutions over time, [batch, channels, time]; masked positions stay zero."""

    def __init__(self, width: int, layers: int) -> None:
        super().__init__(nn.Conv1d(width, width, 5, padding=2) for _ in range(layers))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        for layer in self:
            x = x + torch.relu(layer(x)) * mask
        return x


class MelNetwork(nn.Module):
    """Units to log durations (frames of a unit) and, given durations, to log-mel frames."""

    def __init__(self, clusters: int, width: int, hops: int) -> None:
        """`hops`: mel frames in a unit frame. All layers work at the rate of unit frames; only the output is finer."""
        super().__init__()
        self.hops = hops
        self.padding = clusters
        self.embedding = nn.Embedding(clusters + 1, width, padding_idx=self.padding)
        self.encoder = ConvStack(width, 2)
        self.duration = nn.Linear(width, 1)
        self.position = nn.Linear(3, width)
        self.decoder = ConvStack(width, 3)
        self.output = nn.Linear(width, MELS * hops)

    def exists(self, units: Tensor) -> Tensor:
        """1 for units, 0 for padding."""
        return torch.ne(units, self.padding).float()

    def encode(self, units: Tensor) -> tuple[Tensor, Tensor]:
        """Units [batch, n] (padded with `clusters`) to states [batch, n, width] and log durations [batch, n]."""
        mask = self.exists(units)[:, None]
        states = self.encoder(self.embedding(units).transpose(1, 2), mask).transpose(1, 2)
        return states, self.duration(states)[..., 0]

    def decode(self, states: Tensor, owners: Tensor, positions: Tensor, mask: Tensor) -> Tensor:
        """Log-mel [batch, frames * hops, 80].

        `owners` [batch, frames] is the unit each frame belongs to, `positions` [batch, frames, 3] where in it the frame
        is (see `positions_of`), `mask` [batch, frames] 1 for frames that exist.
        """
        frames = torch.gather(states, 1, owners[..., None].expand(-1, -1, states.shape[-1])) + self.position(positions)
        mask = mask[:, None]
        x = self.decoder(frames.transpose(1, 2) * mask, mask).transpose(1, 2)
        return self.output(x).unflatten(2, (self.hops, MELS)).flatten(1, 2)


def positions_of(durations: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """For every frame of units with these durations: how far in its unit it is, and the unit's 1/duration and log."""
    whole = np.repeat(durations, durations)
    within = np.concatenate([np.arange(duration) for duration in durations])
    return np.stack([(within + 0.5) / whole, 1 / whole, np.log(whole)], axis=1).astype(np.float32)


class GriffinLimVocoder:
    """A trained network with its phase reconstruction."""

    def __init__(self, network: MelNetwork, clusters: int, iterations: int) -> None:
        self.network = network.eval()
        self.clusters = clusters
        self.iterations = iterations

    @torch.inference_mode()
    def log_mels(self, units: Sequence[int]) -> npt.NDArray[np.float32]:
        """Log-mel frames [frames, 80] of units without repeats."""
        states, log_durations = self.network.encode(torch.tensor(units)[None])
        # Rounded on the running sum: the length of the whole is right, whatever the rounding of its parts.
        ends = np.round(np.cumsum(np.exp(log_durations[0].numpy()).clip(1.0, 50.0)))
        durations = np.maximum(np.diff(ends, prepend=0), 1).astype(np.int64)
        owners = torch.from_numpy(np.repeat(np.arange(len(units)), durations))
        positions = torch.from_numpy(positions_of(durations))
        return self.network.decode(states, owners[None], positions[None], torch.ones(1, len(owners)))[0].numpy()

    def __call__(self, units: Sequence[int]) -> npt.NDArray[np.float32]:
        """Audio [samples] of the units of an utterance; no samples for no units. Runs of a unit count once.

        Raises ValueError for a unit that does not exist.
        """
        runs = without_repeats(units)
        if not runs:
            return np.zeros(0, np.float32)
        if min(runs) < 0 or max(runs) >= self.clusters:
            raise ValueError(f"units must be from 0 to {self.clusters - 1}, not {min(runs)} to {max(runs)}")
        return np.clip(griffin_lim(self.log_mels(runs), self.iterations), -1.0, 1.0)


@dataclass(frozen=True)
class Example:
    """An utterance to learn from: its runs of units, their durations in frames, and the log-mel of these frames."""

    units: npt.NDArray[np.int64]
    durations: npt.NDArray[np.int64]
    log_mels: npt.NDArray[np.float32]


def runs_of(units: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The runs of frame units, and the length of each."""
    starts = np.flatnonzero(np.diff(units, prepend=-1))
    return units[starts], np.diff(starts, append=len(units))


def make_example(units: npt.NDArray[np.int64], audio: npt.NDArray[Any], hops: int) -> Example:
    """From the frame units of an utterance and its audio."""
    frames = log_mel(audio, MELS)[: len(units) * hops]
    frames = np.pad(frames, ((0, len(units) * hops - len(frames)), (0, 0)), mode="edge")
    return Example(*runs_of(units), frames)


def pad(arrays: Sequence[npt.NDArray[Any]], value: float) -> Tensor:
    """Arrays [n, ...] of unequal n as one tensor [batch, longest n, ...]."""
    longest = max(map(len, arrays))
    out = np.full((len(arrays), longest, *arrays[0].shape[1:]), value, arrays[0].dtype)
    for i, array in enumerate(arrays):
        out[i, : len(array)] = array
    return torch.from_numpy(out)


def loss_of(network: MelNetwork, batch: Sequence[Example], duration_weight: float) -> Tensor:
    """Mean absolute error of the log-mel plus the squared error of log durations."""
    units = pad([example.units for example in batch], network.padding)
    durations = pad([example.durations for example in batch], 1)
    owners = pad([np.repeat(np.arange(len(example.units)), example.durations) for example in batch], 0)
    positions = pad([positions_of(example.durations) for example in batch], 0)
    mask = pad([np.ones(int(example.durations.sum()), np.float32) for example in batch], 0)
    target = pad([example.log_mels for example in batch], 0)

    states, log_durations = network.encode(units)
    predicted = network.decode(states, owners, positions, mask)
    fine_mask = mask.repeat_interleave(network.hops, dim=1)
    unit_mask = network.exists(units)
    mel_loss = ((predicted - target).abs().mean(dim=-1) * fine_mask).sum() / fine_mask.sum()
    duration_loss = ((log_durations - durations.log()) ** 2 * unit_mask).sum() / unit_mask.sum()
    return mel_loss + duration_weight * duration_loss


def train(
    examples: Sequence[Example],
    network: MelNetwork,
    duration_weight: float,
    seed: int,
    config: Schedule,
    context: Any,
) -> None:
    """Train the network on `examples`. seed: of the order of the batches."""
    lengths = [len(example.log_mels) for example in examples]
    random = np.random.default_rng(seed)
    fit(
        network, lengths, lambda indices: loss_of(network, [examples[i] for i in indices], duration_weight),
        config, random, context,
    )  # fmt: skip
