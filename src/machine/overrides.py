"""What to write on the command line so that stages are trained with other settings."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from src.machine.requirements import Requirement
from src.machine.training import Training, sharding

PRESETS = Path(__file__).resolve().parents[2] / "conf" / "deepspeed"


SHARDS = ("zero_stage", "precision", "offload_optimizer", "offload_parameters")
BESIDE = ("reduce_bucket", "accumulation")
"""What a file in conf/deepspeed decides: how a model is shared out, and beside it the sizes of buffers and the type of
the gradients in them."""


def shards(setting: Training) -> dict[str, Any]:
    """How a setting shares out a model."""
    return {name: getattr(setting, name) for name in SHARDS}


def beside(setting: Training) -> dict[str, Any]:
    """What a setting decides beside it."""
    return {name: getattr(setting, name) for name in BESIDE}


def preset(setting: Training) -> tuple[str | None, dict[str, Any]]:
    """The file in conf/deepspeed that shares out like `setting`, and what it decides beside; None and the setting's own
    if there is none."""
    for file in sorted(PRESETS.glob("*.yaml")):
        told = sharding(yaml.safe_load(file.read_text(encoding="utf-8")) or {})
        if {name: told[name] for name in SHARDS} == shards(setting):
            return file.stem, {name: told[name] for name in BESIDE}
    return None, beside(setting)


def overrides(found: Sequence[Requirement], settings: Sequence[Training]) -> list[str]:
    """Overrides with which each of `found` is trained with its one of `settings`.

    A setting that a stage has of its own is also written for that stage: `train` does not reach it.
    """
    before, after = found[0].training, settings[0]
    pairs = list(zip(found, settings, strict=True))
    told = []
    if after.gpus != before.gpus:
        told += _told("ranks", after.gpus, found)
    if shards(after) != shards(before):
        told += _deepspeed(after)
    told += _told("fused_loss", False, [each for each, one in pairs if each.training.fused_loss > one.fused_loss])
    plain = [each for each, one in pairs if each.training.gradient_checkpointing < one.gradient_checkpointing]
    told += _told("gradient_checkpointing", True, plain)
    if any(one.batch < each.training.on(after.gpus).batch for each, one in pairs):
        most = max(one.batch for one in settings)
        larger = [each for each in found if (each.step.optimization.micro_batch_size or most + 1) > most]
        told += _told("micro_batch_size", most, larger)
    return told


def _deepspeed(setting: Training) -> list[str]:
    name, _ = preset(setting)
    if name is not None:
        return [f"deepspeed={name}"]
    zero = "++deepspeed.zero_optimization"
    told = [f"{zero}.stage={setting.zero_stage}"]
    told += [f"{zero}.offload_optimizer.device=cpu"] if setting.offload_optimizer else []
    told += [f"{zero}.offload_param.device=cpu"] if setting.offload_parameters else []
    return told


def _told(key: str, value: int | bool, changed: Sequence[Requirement]) -> list[str]:
    """A setting of `train`, for those stages that have to change it."""
    sections = dict.fromkeys(each.section if key in each.own else "train" for each in changed)
    return [f"{section}.{key}={str(value).lower()}" for section in sections]
