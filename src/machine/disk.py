"""Bytes on disk of what a training makes (docs/artifacts.md)."""

from dataclasses import dataclass, replace

from src.machine.memory import optimizer_bytes
from src.machine.parameters import Model
from src.machine.training import Training


@dataclass(frozen=True)
class Disk:
    checkpoint: int
    """One checkpoint to go on from, with the optimizer's states."""
    artifact: int
    """A stage: adapter and modules trained in full."""
    model: int
    """A whole model."""
    merged: int
    """A merge by difference: the tensors that differ; the others are shared with the base."""


def disk(model: Model, training: Training) -> Disk:
    """Bytes on disk. A merge is kept in float32. A checkpoint holds what is trained and all shares of the
    optimizer's states; with ZeRO-3 the former is only in the latter.
    """
    e = training.element
    states = optimizer_bytes(model.trainable, replace(training, gpus=1))
    weights = model.trainable if training.zero_stage < 3 else 0
    return Disk(
        checkpoint=weights * e + states,
        artifact=(model.trainable - model.lora_trained + model.lora) * e,
        model=model.total * e,
        merged=model.changed * 4,
    )
