"""Whole models of trained stages as PEFT makes them: what the project's own way is held against."""

from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer


def folded(base: Path, stage: Path, alpha: float | None = None) -> Any:
    """Base and modules trained in full, in float32, with the adapter folded in (by another alpha, if one is given)."""
    model = AutoModelForCausalLM.from_pretrained(base / "model", dtype=torch.float32)
    model.load_state_dict(load_file(stage / "full.safetensors"), strict=False)
    config = LoraConfig.from_pretrained(str(stage / "adapter"))
    if alpha is not None:
        config.lora_alpha = alpha  # type: ignore[assignment]
    peft: Any = PeftModel.from_pretrained(model, stage / "adapter", config=config)
    return peft.merge_and_unload()


def save_folded(base: Path, stage: Path, out: Path, alpha: float | None = None) -> None:
    """That model as a plain folder, with the base's tokenizer."""
    folded(base, stage, alpha).save_pretrained(out)
    AutoTokenizer.from_pretrained(base / "model").save_pretrained(out)
