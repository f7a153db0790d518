"""The settings with which training fits a GPU, changed as little as need be."""

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from src.machine.memory import estimate
from src.machine.overrides import preset, shards
from src.machine.parameters import Model
from src.machine.requirements import Requirement
from src.machine.training import Training

MOST_RANKS = 64
"""No remedy asks for more GPUs."""
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


def remedy(found: Sequence[Requirement]) -> list[Training] | None:
    """Settings with which all stages fit, changed alike and as little as need be; None if there are none."""
    ranks = found[0].training.gpus
    while True:
        changed = _fitting(found, [each.training.on(ranks) for each in found])
        if changed is not None or ranks >= MOST_RANKS:
            return changed
        ranks *= 2


def _fitting(found: Sequence[Requirement], before: list[Training]) -> list[Training] | None:
    """`before`, changed until each stage fits its GPU. Each change is made in all stages."""
    settings = before
    for _ in range(2 * len(found) + 2):
        if _fit(found, settings):
            return _relaxed(found, before, settings)
        pairs = zip(found, settings, strict=True)
        worst, setting = max(pairs, key=lambda pair: estimate(pair[0].model, pair[1]).total)
        changes = least_change(worst.model, setting, worst.gpu.memory_gb or math.inf)
        if not changes:
            return None
        settings = [_changed(each, one, changes) for each, one in zip(found, settings, strict=True)]
    return None


def _relaxed(found: Sequence[Requirement], before: list[Training], settings: list[Training]) -> list[Training]:
    """`settings` without the changes that a later change, for another stage, has made needless."""
    for name in ORDER:
        values = [getattr(one, name) for one in before]
        most, now = max(values), max(getattr(one, name) for one in settings)
        weaker = range(most, now, -1) if name == "batch" else range(min(values), now)
        for value in weaker:
            with suppress(ValueError):  # a later change may need this one
                larger = [
                    replace(one, batch=first.batch) if name == "batch" else one
                    for first, one in zip(before, settings, strict=True)
                ]
                change = {name: type(now)(value)}
                candidate = [_changed(each, one, change) for each, one in zip(found, larger, strict=True)]
                if _fit(found, candidate):
                    settings = candidate
                    break
    return settings


def _fit(found: Sequence[Requirement], settings: Sequence[Training]) -> bool:
    return all(
        each.gpu.memory_gb is None or estimate(each.model, one).fits(each.gpu.memory_gb)
        for each, one in zip(found, settings, strict=True)
    )


def _changed(each: Requirement, setting: Training, changes: Mapping[str, Any]) -> Training:
    """A stage's setting with the changes, but never with a larger batch.

    Other sharding has the buffers of its file in conf/deepspeed. ZeRO-3 goes without the fused loss, as no GPU has the
    whole head.
    """
    changed = replace(setting, **{**changes, "batch": min(setting.batch, changes.get("batch", setting.batch))})
    changed = replace(changed, fused_loss=each.training.fused_loss and changed.zero_stage < 3)
    own = shards(changed) == shards(each.training)
    return replace(changed, reduce_bucket=each.training.reduce_bucket if own else preset(changed)[1])
