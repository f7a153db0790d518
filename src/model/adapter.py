"""The trained part of a spoken language model: one LoRA adapter, and some modules of the base trained in full.

As in the paper: LoRA on q_proj, k_proj and v_proj of every layer; the embeddings, the head and q/k/v of the last layers
in full, the latter with LoRA on top of them.
"""

import json
import re
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, PreTrainedModel

from src.checks import require
from src.model.checkpoint import require_finite
from src.model.settings import Adapter

ADAPTER, FULL = "adapter", "full.safetensors"
LORA, SETTINGS = "adapter_model.safetensors", "adapter_config.json"
"""What ADAPTER holds, by PEFT's names."""
PREFIX = "base_model.model."


def is_full(name: str, layers: int, config: Adapter) -> bool:
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
    base: Path, previous: Path | None, config: Adapter, seed: int, dtype: torch.dtype = torch.float32
) -> PeftModel:
    """The model of a stage: the previous stage's adapter and full modules to be trained further, or a new adapter.

    previous: the stage before. Its full modules are in the model whether or not `config` has them trained further; its
    dropout too may be another, but neither r nor alpha nor target_modules. dtype: of all weights, LoRA's too.

    Raises ValueError where no parameter of the model matches what is to be trained in full, or the previous stage's
    adapter is of another form.
    """
    model = load_base(base, dtype)
    if previous is None:
        return adapted(model, config, seed)
    check_same(config, previous)
    overlay(model, previous)
    peft = PeftModel.from_pretrained(
        model, previous / ADAPTER, is_trainable=True, config=_lora(config), autocast_adapter_dtype=False
    )
    _train_in_full(peft, config)
    if config.lora_in_later_stages == "frozen":
        for name, parameter in peft.named_parameters():
            if "lora_" in name:
                parameter.requires_grad_(False)
    return peft


def adapted(model: PreTrainedModel, config: Adapter, seed: int) -> PeftModel:
    """A model in memory with a new adapter of its own type, to be trained with its full modules.

    Raises ValueError where none of these is a module of the model.
    """
    torch.manual_seed(seed)
    peft: PeftModel = get_peft_model(model, _lora(config), autocast_adapter_dtype=False)  # type: ignore[assignment]
    _train_in_full(peft, config)
    return peft


def _lora(config: Adapter) -> LoraConfig:
    return LoraConfig(
        r=config.r,
        lora_alpha=config.alpha,  # type: ignore[arg-type]
        lora_dropout=config.dropout,
        target_modules=list(config.target_modules),
        bias="none",
        task_type="CAUSAL_LM",
    )


def _train_in_full(peft: PeftModel, config: Adapter) -> None:
    model: Any = peft.get_base_model()
    layers = model.config.num_hidden_layers
    full = [name for name, _ in peft.named_parameters() if "lora_" not in name and is_full(name, layers, config)]
    for name in full:
        peft.get_parameter(name).requires_grad_(True)
    if config.in_full and not full:
        raise ValueError(f"none of {', '.join(config.in_full)} is a module of the base model")


def check_same(config: Adapter, previous: Path) -> None:
    """Raise ValueError where the adapter of the stage `previous` is of another form: it goes on being trained."""
    saved = json.loads((previous / ADAPTER / SETTINGS).read_text())
    names = {"r": "r", "alpha": "lora_alpha", "target_modules": "target_modules"}
    for name, theirs in names.items():
        ours = getattr(config, name)
        ours = sorted(ours) if name == "target_modules" else ours
        require(ours == saved[theirs], name, ours, f"the previous stage's {saved[theirs]}, whose adapter is trained on")


def overlay(model: PreTrainedModel, stage: Path) -> None:
    """Put a stage's fully trained modules into the base model, in place."""
    unknown = model.load_state_dict(load_file(stage / FULL), strict=False).unexpected_keys
    if unknown:
        raise ValueError(f"{stage / FULL} holds {unknown[0]}, which the base model has not")


def save(peft: PeftModel, out: Path, previous: Path | None = None) -> None:
    """Write `adapter/` (PEFT's format, LoRA alone) and `full.safetensors` (base names; empty with LoRA alone).

    previous: the stage before. What this stage has not trained further, of full modules and of LoRA, is kept from it.
    Raises ValueError where what was trained is not finite.
    """
    full = {} if previous is None else load_file(previous / FULL)
    full |= {
        name.removeprefix(PREFIX).replace(".base_layer", ""): parameter.detach().contiguous()
        for name, parameter in peft.named_parameters()
        if parameter.requires_grad and "lora_" not in name
    }
    lora = {} if previous is None else load_file(previous / ADAPTER / LORA)
    lora |= {
        name.replace(".default", ""): parameter.detach().contiguous()
        for name, parameter in peft.named_parameters()
        if parameter.requires_grad and "lora_" in name
    }
    for name, tensor in {**full, **lora}.items():
        require_finite(name, tensor, "the training")
    save_file(full, out / FULL, metadata={"format": "pt"})
    config: Any = peft.peft_config["default"]
    config.base_model_name_or_path = None  # a path of this machine, else
    config.inference_mode = True
    (out / ADAPTER).mkdir(exist_ok=True)
    save_file(lora, out / ADAPTER / LORA, metadata={"format": "pt"})
    # PEFT keeps its target modules as a set: written sorted, so that the same adapter has the same bytes
    config.target_modules = sorted(config.target_modules)
    config.save_pretrained(str(out / ADAPTER))
