"""The checks in the order in which they run, with time limits of less than 8 minutes together. Imports no torch."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmarks.gpu_checks.findings import Findings


@dataclass(frozen=True)
class Check:
    """One check."""

    key: str
    """The letter that it is chosen by; several may share one."""
    name: str
    about: str
    seconds: int
    """Its time limit at the true size, without the time that others have saved."""
    module: str
    """Module of this package and function, "training.speed"."""

    def load(self) -> "Callable[[Findings, bool], Any]":
        """What runs it: called with the findings and whether it is to be at toy size."""
        name, _, function = self.module.partition(".")
        module = importlib.import_module(f"benchmarks.gpu_checks.{name}")
        found: Callable[[Findings, bool], Any] = getattr(module, function)
        return found


_ALL = (
    Check("a", "device", "device, bfloat16 products, what can be imported", 35, "device.device"),
    Check("b", "loop", "the training loop in bfloat16 beside float32: 2 layers, 10 steps", 30, "training.loop"),
    Check("c", "speed_800", "all layers, 4 x 800 tokens with checkpointing", 35, "training.speed_800"),
    Check("c", "speed_1200", "all layers, 1 x 1200 tokens with checkpointing", 25, "training.speed_1200"),
    Check("d", "speed_whole", "all layers, 4 x 800 tokens without checkpointing", 25, "training.speed_whole"),
    Check("e", "fused", "fused loss beside the plain one", 25, "fused.fused"),
    Check("f", "zero3", "zero3_bf16: memory, gathered, resumed", 40, "zero3.zero3"),
    Check("f", "zero3_offload_all", "zero3_offload_all_bf16: memory, gathered, resumed", 45, "zero3.zero3_offload_all"),
    Check("g", "zero2_offload", "all layers, zero2_offload_bf16, 2 x 2 x 800 tokens", 40, "training.zero2_offload"),
    Check("h", "generation", "28 x (300 + 200) tokens, all layers", 40, "generation.generation"),
    Check("i", "rounding", "trained against scored model, alpha 14 and 15", 35, "rounding.divergences"),
    Check("k", "encoder", "XLSR2-1B to its layer 35, batches of 240 s", 30, "listening.encoder"),
    Check("k", "whisper", "Whisper large-v3, word times of 16 x 14 s", 30, "listening.whisper"),
    Check("k", "speecht5", "SpeechT5, 16 texts", 15, "speaking.speecht5"),
    Check("k", "vocoder", "HiFi-GAN of 1,800 units", 10, "speaking.vocoder"),
)  # fmt: skip
CHECKS = {check.name: check for check in _ALL}
KEYS = tuple(dict.fromkeys(check.key for check in _ALL))
