"""The trained part of a spoken language model: one LoRA adapter, and some modules of the base trained in full.

As in the paper: LoRA on q_proj, k_proj and v_proj of every layer; the embeddings, the head and q/k/v of the last layers
in full, the latter with LoRA on top of them.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, PreTrainedModel

ADAPTER, FULL = "adapter", "full.safetensors"
LORA, SETTINGS = "adapter_model.safetensors", "adapter_config.json"
"""What ADAPTER holds, by PEFT's names."""
PREFIX = "base_model.model."


@dataclass(frozen=True)
class AdapterConfig:
    r: int
    alpha: float
    dropout: float
    target_modules: tuple[str, ...]
    full_modules: tuple[str, ...]
    """Modules trained in full wherever they stand: the embeddings and the head."""
    full_projections: tuple[str, ...]
    full_last_layers: int
    """How many of the last layers have their `full_projections` trained in full."""

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "AdapterConfig":
        made: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in config.items()}
        return cls(**made)


def is_full(name: str, layers: int, config: AdapterConfig) -> bool:
    """Whether the base parameter `name` is trained in full."""
    if any(f"{module}.weight" in name for module in config.full_modules):
        return True
    found = re.search(r"layers\.(\d+)\.", name)
    last = found is not None and int(found[1]) >= layers - config.full_last_layers
    return last and any(f".{projection}." in name for projection in config.full_projections)


def load_base(folder: Path, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """The plain model of an artifact."""
    return AutoModelForCausalLM.from_pretrained(folder / "model", dtype=dtype)


def trainable(
    base: Path, previous: Path | None, config: AdapterConfig, seed: int, dtype: torch.dtype = torch.float32
) -> PeftModel:
    """The model of a stage: the previous stage's adapter and full modules to be trained further, or a new adapter.

    dtype: of all weights, LoRA's too.

    Raises ValueError where no parameter of the model matches what is to be trained.
    """
    model = load_base(base, dtype)
    layers = model.config.num_hidden_layers
    if previous is None:
        torch.manual_seed(seed)
        lora = LoraConfig(
            r=config.r,
            lora_alpha=config.alpha,  # type: ignore[arg-type]
            lora_dropout=config.dropout,
            target_modules=list(config.target_modules),
            bias="none",
            task_type="CAUSAL_LM",
        )
        peft: PeftModel = get_peft_model(model, lora, autocast_adapter_dtype=False)  # type: ignore[assignment]
    else:
        overlay(model, previous)
        peft = PeftModel.from_pretrained(model, previous / ADAPTER, is_trainable=True, autocast_adapter_dtype=False)
    full = 0
    for name, parameter in peft.named_parameters():
        if "lora_" not in name and is_full(name, layers, config):
            parameter.requires_grad_(True)
            full += 1
    if not full:
        raise ValueError(f"none of {config.full_modules + config.full_projections} is a module of the base model")
    return peft


def overlay(model: PreTrainedModel, stage: Path) -> None:
    """Put a stage's fully trained modules into the base model, in place."""
    unknown = model.load_state_dict(load_file(stage / FULL), strict=False).unexpected_keys
    if unknown:
        raise ValueError(f"{stage / FULL} holds {unknown[0]}, which the base model has not")


def save(peft: PeftModel, out: Path) -> None:
    """Write `adapter/` (PEFT's format, LoRA alone) and `full.safetensors` (base names)."""
    full = {
        name.removeprefix(PREFIX).replace(".base_layer", ""): parameter.detach().contiguous()
        for name, parameter in peft.named_parameters()
        if parameter.requires_grad and "lora_" not in name
    }
    save_file(full, out / FULL, metadata={"format": "pt"})
    config: Any = peft.peft_config["default"]
    config.base_model_name_or_path = None  # a path of this machine, else
    config.inference_mode = True
    lora = {
        name.replace(".default", ""): parameter.detach().contiguous()
        for name, parameter in peft.named_parameters()
        if "lora_" in name
    }
    (out / ADAPTER).mkdir(exist_ok=True)
    save_file(lora, out / ADAPTER / LORA, metadata={"format": "pt"})
    # PEFT keeps its target modules as a set: written sorted, so that the same adapter has the same bytes
    config.target_modules = sorted(config.target_modules)
    config.save_pretrained(str(out / ADAPTER))
