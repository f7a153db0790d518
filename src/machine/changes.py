"""The changes to one stage's settings with which it fits a GPU."""

import math
from contextlib import suppress
from dataclasses import replace
from typing import Any

from src.machine.memory import estimate
from src.machine.parameters import Model
from src.machine.training import Training

ORDER = ("gradient_checkpointing", "batch", "zero_stage", "offload_optimizer", "offload_parameters")
"""The settings that a remedy may change, cheapest first."""


def least_change(model: Model, training: Training, gpu_gb: float) -> dict[str, Any] | None:
    """The settings to change so that it fits, as few as possible; {} if it does already, None if nothing helps.

    Tried in this order, each on top of those before: gradient checkpointing, a smaller batch (accumulate gradients
    instead), ZeRO-2 and 3, offloading the optimizer, offloading the parameters.
    """

    def fits(setting: Training) -> bool:
        return estimate(model, setting).fits(gpu_gb)

    found = training
    for step in _steps(training):
        if fits(found):
            break
        found = replace(found, **step)
    if not fits(found):
        return None
    changed = {name: value for name in ORDER if (value := getattr(found, name)) != getattr(training, name)}
    for name in list(changed):  # an earlier step may not be needed beside a later one, or not as much of it
        weaker = [getattr(training, name)]
        if name == "batch":
            weaker += range(training.batch - 1, changed[name], -1)
        for value in weaker:
            candidate = changed | {name: value}
            with suppress(ValueError):  # the later one may need the earlier one
                if fits(replace(training, **candidate)):
                    changed = candidate
                    break
    return {name: value for name, value in changed.items() if value != getattr(training, name)}


def _steps(training: Training) -> list[dict[str, Any]]:
    """The changes to try, one after the other."""
    steps: list[dict[str, Any]] = []
    if not training.gradient_checkpointing:
        steps.append({"gradient_checkpointing": True})
    batch = training.batch
    while batch > 1:
        batch = math.ceil(batch / 2)
        steps.append({"batch": batch})
    if training.gpus > 1:
        steps += [{"zero_stage": stage} for stage in (2, 3) if stage > training.zero_stage]
    if not training.offload_optimizer:
        stage = 3 if training.gpus > 1 else max(2, training.zero_stage)
        steps.append({"offload_optimizer": True, "zero_stage": stage})
    if not training.offload_parameters:
        steps.append({"offload_parameters": True, "zero_stage": 3})
    return steps
