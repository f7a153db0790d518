"""DeepSpeed's configuration, held against DeepSpeed's own models of it when a plan is made.

Importing DeepSpeed takes PyTorch and seconds. The names of its settings are read from its source instead.
"""

import ast
from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from src.checks import require

MODELS = {
    "zero_optimization": ("runtime/zero/config.py", "DeepSpeedZeroConfig"),
    "bf16": ("runtime/precision_config.py", "DeepSpeedBF16Config"),
}
"""Section -> file and class in DeepSpeed."""
SECTIONS = (
    "zero_optimization", "bf16", "data_types", "zero_allow_untested_optimizer", "zero_force_ds_cpu_optimizer",
    "communication_data_type", "seq_parallel_communication_data_type", "prescale_gradients",
    "gradient_predivide_factor", "sparse_gradients", "activation_checkpointing", "aio", "checkpoint", "zenflow",
    "torch_autocast", "wall_clock_breakdown", "memory_breakdown", "dump_state", "flops_profiler", "comms_logger",
)  # fmt: skip
"""What may stand in `deepspeed`, beside what the training loop sets itself."""


def check_deepspeed(config: Mapping[str, Any]) -> None:
    """Raise ValueError, one line, for a setting that DeepSpeed does not have or that the loop cannot train with."""
    require(not config.get("fp16"), "deepspeed.fp16", config.get("fp16"), "left out: train in bf16 or float32")
    for section, given in config.items():
        require(section in SECTIONS, f"deepspeed.{section}", given, "left out; there are " + ", ".join(SECTIONS))
        if section not in MODELS:
            continue
        require(isinstance(given, Mapping), f"deepspeed.{section}", given, "settings in braces, {name: value}")
        known = fields(*MODELS[section])
        for name, value in given.items():
            right = "left out; DeepSpeed has " + ", ".join(known)
            require(not known or name in known, f"deepspeed.{section}.{name}", value, right)
    stage = config.get("zero_optimization", {}).get("stage", 0)
    right = "0, 1, 2 or 3"
    require(stage in (0, 1, 2, 3) and not isinstance(stage, bool), "deepspeed.zero_optimization.stage", stage, right)
    enabled = config.get("bf16", {}).get("enabled", False)
    require(isinstance(enabled, bool), "deepspeed.bf16.enabled", enabled, "true or false")


@cache
def fields(file: str, name: str) -> tuple[str, ...]:
    """Names of a DeepSpeed model's fields, aliases too; none where DeepSpeed is not installed."""
    found = find_spec("deepspeed")
    if found is None or found.origin is None:
        return ()
    tree = ast.parse((Path(found.origin).parent / file).read_text(encoding="utf-8"))
    model = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name)
    declared = [node for node in model.body if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)]
    given = [word for node in declared if isinstance(node.value, ast.Call) for word in node.value.keywords]
    aliases = [word.value.value for word in given if word.arg == "alias" and isinstance(word.value, ast.Constant)]
    return (*(node.target.id for node in declared if isinstance(node.target, ast.Name)), *map(str, aliases))
