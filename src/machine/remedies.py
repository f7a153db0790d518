"""The settings with which all stages of a plan fit their GPUs, changed alike and as little as need be."""

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from src.machine.changes import ORDER, least_change
from src.machine.memory import estimate
from src.machine.overrides import beside, preset, shards
from src.machine.requirements import Requirement
from src.machine.training import Training

MOST_RANKS = 64
"""No remedy asks for more GPUs."""


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

    Other sharding has the buffers of its file in conf/deepspeed, and the type of its gradients. ZeRO-3 goes without the
    fused loss, as no GPU has the whole head.
    """
    changed = replace(setting, **{**changes, "batch": min(setting.batch, changes.get("batch", setting.batch))})
    changed = replace(changed, fused_loss=each.training.fused_loss and changed.zero_stage < 3)
    own = shards(changed) == shards(each.training)
    return replace(changed, **(beside(each.training) if own else preset(changed)[1]))
